"""Check whether a prepared folder was made from the photos of a raw data folder, even if both folders were moved."""

import hashlib
from pathlib import Path

import pandas as pd

from maskfold.data.catalog import raise_faults, read_catalog
from maskfold.data.damaged_photos import CheckedPhotos, skipped_eval_ids, skipped_people
from maskfold.data.images_table import IMAGES_FILE, Prepared, fingerprint, read_meta, read_prepared_table
from maskfold.data.raw_layout import Layout
from maskfold.errors import UserError
from maskfold.places import possible_paths
from maskfold.progress import parallel_map


def is_recorded_folder(folder: Path, layout: Layout) -> bool:
    """Whether dataset.json in the prepared folder `folder` records the paths of this raw data folder.

    Both folders may have been moved together, as parts of one project.
    """
    meta = read_meta(folder)
    paths = {"root": layout.root, "eval": layout.eval_dir}
    return all(_is_recorded(path, Path(meta[key]), folder) for key, path in paths.items())


def _is_recorded(path: Path, recorded: Path, folder: Path) -> bool:
    """Whether `recorded`, a path in dataset.json of the prepared folder `folder`, stands for `path`.

    `path` need not exist.
    """
    existing = list(possible_paths(recorded, folder))
    if recorded in existing:
        # If the recorded absolute path still exists, only this path is meant.
        existing = [recorded]
    if not path.exists():
        return recorded == path or not existing
    return any(path.samefile(possible) for possible in existing)


def check_same_photos(folder: Path, layout: Layout, photos: CheckedPhotos, eval_photos: CheckedPhotos) -> None:
    """Raise UserError if the photos of a prepared folder differ from those of a raw data folder.

    Photos that were left out of the prepared folder are not compared. Labels are not compared either, because of
    corrections.
    """
    meta, images = read_meta(folder), read_prepared_table(folder, IMAGES_FILE)
    photos = photos.kept(~photos.table.person_id.isin(skipped_people(meta)))
    eval_photos = eval_photos.kept(~eval_photos.table.image_id.isin(skipped_eval_ids(meta)))
    hash_by_id = dict(zip(photos.table.image_id, photos.hashes, strict=True))
    is_same = set(images.image_id) == set(hash_by_id)
    is_same = is_same and fingerprint(images, [hash_by_id[name] for name in images.image_id]) == meta["fingerprint"]
    if is_same and meta["counts"].get("eval_images"):
        is_same = fingerprint(eval_photos.table, eval_photos.hashes) == meta["eval_fingerprint"]
    elif is_same:
        is_same = eval_photos.table.empty
    if not is_same:
        raise UserError(
            f"{folder}: was prepared from {meta['root']}, whose photos differ from those in {layout.root}; give the "
            "data folder that it was prepared from, or use another prepared folder (--data.prepared, or --out of "
            "prepare.py)"
        )


def check_same_data(folder: Path, layout: Layout) -> None:
    """Read the photos of a raw data folder and call check_same_photos.

    The photos are not read if dataset.json of the prepared folder records this raw data folder. Raises UserError if the
    photos differ, or if the raw data has faults.
    """
    if is_recorded_folder(folder, layout):
        return
    catalog = read_catalog(layout)
    hint = f", or give the data folder that {folder} was prepared from"
    raise_faults(catalog.train_faults + catalog.eval_faults, layout.root, hint)
    evaluation = pd.DataFrame(columns=["image_id", "path"]) if catalog.evaluation is None else catalog.evaluation
    photos, eval_photos = (
        CheckedPhotos(table, _hashes([layout.root / path for path in table.path], layout.root), [None] * len(table))
        for table in (catalog.images, evaluation)
    )
    check_same_photos(folder, layout, photos, eval_photos)


def check_given_root(prepared: Prepared, *tables: pd.DataFrame) -> None:
    """Raise UserError if the photos in --data.root differ from those from which the prepared folder was made.

    Commands that read raw photos call this function if nothing else compares these photos with the fingerprints.
    tables: `images`, `evaluation` or both. No photo is read if --data.root is not given, or if it is the raw data
    folder that dataset.json records.
    """
    root, meta = prepared.places.root, prepared.meta
    if root is None or _is_recorded(root, Path(meta["root"]), prepared.folder):
        return
    for table in tables:
        expected = meta["fingerprint" if table is prepared.images else "eval_fingerprint"]
        if fingerprint(table, _hashes(prepared.photo_paths(table), root)) != expected:
            raise UserError(
                f"--data.root {root}: its photos differ from those that {prepared.folder} was prepared from; give the "
                "data folder that it was prepared from"
            )


def _hashes(paths: list[Path], root: Path) -> list[str]:
    """Return the sha1 of each file, empty for a missing file. The photos are not decoded."""
    return list(parallel_map(_sha1, paths, f"checking {root}", "photos"))


def _sha1(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha1").hexdigest()
    except FileNotFoundError:
        return ""


def has_same_content(folder: Path, old_meta: dict, tables: dict[str, pd.DataFrame | None], meta: dict) -> bool:
    """Whether the new content of a prepared folder differs from its present content only in paths and warnings.

    old_meta, meta: the old and the new dataset.json. tables: the new tables by file name.
    """
    return _content(old_meta) == _content(meta) and all(
        table is None or table.empty or _without_paths(read_prepared_table(folder, name)) == _without_paths(table)
        for name, table in tables.items()
    )


def _content(meta: dict) -> list:
    corrections = meta["corrections"] and meta["corrections"] | {"file": ""}
    keys = ("counts", "fold_seed", "fingerprint", "eval_fingerprint")
    return [corrections, skipped_people(meta), skipped_eval_ids(meta), *map(meta.get, keys)]


def _without_paths(table: pd.DataFrame) -> str:
    return table.drop(columns="path", errors="ignore").to_csv(index=False)
