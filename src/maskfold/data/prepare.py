"""Raw folder -> prepared folder: images.csv, folds.csv, eval.csv and dataset.json, which all later stages read."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from maskfold.config import Data
from maskfold.data.catalog import Catalog, labelled, read_catalog, tell
from maskfold.data.corrections import apply_corrections
from maskfold.data.folds import check_folds, draw_folds
from maskfold.data.layout import Layout, find_layout
from maskfold.data.photos import check_photo
from maskfold.errors import UserError
from maskfold.files import locked, read_json, sha256, write_atomic, write_json
from maskfold.labels import PHOTOS_PER_PERSON
from maskfold.progress import track

FILES = {"images": "images.csv", "folds": "folds.csv", "evaluation": "eval.csv"}


@dataclass(frozen=True)
class Prepared:
    """A prepared folder in memory: images, folds and evaluation (or None) as tables, meta as dataset.json."""

    folder: Path
    images: pd.DataFrame
    folds: pd.DataFrame
    evaluation: pd.DataFrame | None
    meta: dict

    @property
    def num_folds(self) -> int:
        return int(self.folds.fold.max()) + 1

    @property
    def eval_people(self) -> int:
        """People on the eval side, by its photos; 0 without one."""
        return 0 if self.evaluation is None else round(len(self.evaluation) / PHOTOS_PER_PERSON)

    def photo_paths(self, table: pd.DataFrame) -> list[Path]:
        return [Path(self.meta["root"]) / path for path in table.path]


def default_folder(layout: Layout) -> Path:
    return Path("data/prepared") / layout.root.absolute().name


def prepare(layout: Layout, folder: Path, folds: int, seed: int, corrections: Path | None = None) -> Prepared:
    """Check all of the raw data, reading every photo once, and write the prepared folder; an existing folds.csv stands.

    Raises UserError with every fault, before anything is written, and where the folder belongs to another root.
    """
    places = {"root": str(layout.root.resolve()), "eval": str(layout.eval_dir.resolve())}
    _refuse_other_root(folder, places)
    catalog = read_catalog(layout)
    # The lists are told with the tables' faults: one run, all faults.
    digest = _read_photos(catalog, layout)
    tell(catalog.faults, layout.root)
    people, swapped, applied = catalog.people, set(), None
    if corrections is not None:
        people, swapped, applied = apply_corrections(people, corrections)
        applied["sha256"] = sha256(corrections)
    images = labelled(catalog.images, people, swapped)
    with locked(folder):
        drawn = _folds_of(folder, people, images, folds, seed, catalog)
        digest.update("\n".join(f"{i} {n}" for i, n in zip(images.image_id, images.label, strict=True)).encode())
        meta = {
            **places,
            "counts": {
                "people": len(people),
                "images": len(images),
                "eval_images": 0 if catalog.evaluation is None else len(catalog.evaluation),
                "folds": int(drawn.fold.max()) + 1,
            },
            "fold_seed": seed,
            "fingerprint": digest.hexdigest()[:16],
            "corrections": applied,
            "warnings": catalog.warnings,
        }
        tables = {"images": images, "folds": drawn, "evaluation": catalog.evaluation}
        for name, file in FILES.items():
            if tables[name] is None:
                (folder / file).unlink(missing_ok=True)
            else:
                write_atomic(folder / file, lambda beside, name=name: tables[name].to_csv(beside, index=False))
        # Last, since it says that the others are whole.
        write_json(folder / "dataset.json", meta)
    return Prepared(folder, images, drawn, catalog.evaluation, meta)


def load_prepared(folder: Path) -> Prepared:
    """Read a prepared folder. Raises UserError where it is incomplete."""
    again = f"prepare the data again (scripts/prepare.py --out {folder})"
    meta = read_json(folder / "dataset.json", again)
    tables = {}
    for name, file in FILES.items():
        if name == "evaluation" and not meta["counts"]["eval_images"]:
            tables[name] = None
            continue
        try:
            tables[name] = pd.read_csv(folder / file, dtype={"person_id": str, "image_id": str}, keep_default_na=False)
        except (OSError, ValueError) as fault:
            raise UserError(f"{folder / file}: not readable ({fault}); {again}") from fault
    return Prepared(folder, meta=meta, **tables)


def ensure_prepared(data: Data) -> Prepared:
    """The prepared folder, made where it is missing.

    Raises UserError where it belongs to another root, or was made with other corrections than asked for.
    """
    root, folder, corrections = data.root, data.prepared, data.corrections
    if root is None and folder is not None and (folder / "dataset.json").exists():
        return load_prepared(folder)
    layout = find_layout(root)
    folder = folder or default_folder(layout)
    if not (folder / "dataset.json").exists():
        return prepare(layout, folder, data.folds, data.fold_seed, corrections)
    _refuse_other_root(folder, {"root": str(layout.root.resolve()), "eval": str(layout.eval_dir.resolve())})
    prepared = load_prepared(folder)
    if corrections is not None:
        if not corrections.is_file():
            raise UserError(f"data.corrections: {corrections}: no such file")
        applied = prepared.meta["corrections"]
        if applied is None or applied["sha256"] != sha256(corrections):
            raise UserError(
                f"data.corrections: {folder} was prepared with {applied['file'] if applied else 'none'}, not with this "
                f"{corrections}; prepare it again (scripts/prepare.py --corrections {corrections}), or choose another "
                "data.prepared"
            )
    return prepared


def _refuse_other_root(folder: Path, places: dict[str, str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose another prepared folder")
    if (folder / "dataset.json").exists():
        meta = read_json(folder / "dataset.json", f"delete {folder} or choose another prepared folder")
        for key, place in places.items():
            if meta.get(key) != place:
                raise UserError(
                    f"{folder}: was prepared from {meta.get(key)}, not from {place}; choose another prepared folder, "
                    "or delete this one"
                )


def _read_photos(catalog: Catalog, layout: Layout) -> "hashlib._Hash":
    """Read every photo; its faults join the catalog's. Returns a digest of all ids and contents."""
    tables = [catalog.images] if catalog.evaluation is None else [catalog.images, catalog.evaluation]
    photos = pd.concat([table[["image_id", "path"]] for table in tables])
    digest = hashlib.sha256()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = pool.map(lambda path: check_photo(layout.root / path), photos.path)
        for name, (content, fault) in zip(
            photos.image_id, track(checked, "reading photos", len(photos), "photos"), strict=True
        ):
            digest.update(f"{name} {content}\n".encode())
            if fault:
                catalog.faults.append(fault)
    return digest


def _folds_of(folder, people, images, folds, seed, catalog) -> pd.DataFrame:
    if (folder / "folds.csv").exists():
        kept = pd.read_csv(folder / "folds.csv", dtype={"person_id": str})
        check_folds(images, kept)
        if kept.fold.max() + 1 != folds:
            catalog.warnings.append(
                f"{folder / 'folds.csv'} has {kept.fold.max() + 1} folds and stands, though {folds} are asked for"
            )
        return kept
    drawn, warnings = draw_folds(people, folds, seed)
    catalog.warnings += warnings
    return drawn
