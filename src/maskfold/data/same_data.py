"""Whether a prepared folder was made from the photos of a raw data folder, wherever both lie now."""

import hashlib
from pathlib import Path

import pandas as pd

from maskfold.data.catalog import raise_faults, read_catalog
from maskfold.data.damaged_photos import CheckedPhotos, skipped_eval_ids, skipped_people
from maskfold.data.images_table import IMAGES_FILE, Prepared, fingerprint, read_meta, read_prepared_table
from maskfold.data.raw_layout import Layout
from maskfold.errors import UserError
from maskfold.places import possible_places
from maskfold.progress import parallel_map


def is_recorded_place(folder: Path, layout: Layout) -> bool:
    """Whether dataset.json of a prepared folder names this raw data folder, or stood in one project with it."""
    meta = read_meta(folder)
    return _names(meta["root"], layout.root, folder) and _names(meta["eval"], layout.eval_dir, folder)


def _names(recorded: str, place: Path, folder: Path) -> bool:
    """Whether a path recorded in a prepared folder is that of a place, which may be missing."""
    possible = list(possible_places(Path(recorded), folder))
    if Path(recorded) in possible:
        # An absolute path that exists still means what it meant.
        possible = [Path(recorded)]
    if not place.exists():
        return Path(recorded) == place or not possible
    return any(place.samefile(other) for other in possible)


def check_same_photos(folder: Path, layout: Layout, photos: CheckedPhotos, eval_photos: CheckedPhotos) -> None:
    """Raise UserError if a prepared folder was made from other photos than those of another raw data folder.

    Photos that were left out when it was prepared do not count. Labels may differ, by corrections.
    """
    meta, images = read_meta(folder), read_prepared_table(folder, IMAGES_FILE)
    photos = photos.kept(~photos.table.person_id.isin(skipped_people(meta)))
    eval_photos = eval_photos.kept(~eval_photos.table.image_id.isin(skipped_eval_ids(meta)))
    content_by_id = dict(zip(photos.table.image_id, photos.contents, strict=True))
    is_same = set(images.image_id) == set(content_by_id)
    is_same = is_same and fingerprint(images, [content_by_id[name] for name in images.image_id]) == meta["fingerprint"]
    if is_same and meta["counts"].get("eval_images"):
        is_same = fingerprint(eval_photos.table, eval_photos.contents) == meta["eval_fingerprint"]
    elif is_same:
        is_same = eval_photos.table.empty
    if not is_same:
        raise UserError(
            f"{folder}: was prepared from {meta['root']}, whose photos differ from those in {layout.root}; give the "
            "data folder that it was prepared from, or choose another prepared folder (--data.prepared, or --out of "
            "prepare.py)"
        )


def check_same_data(folder: Path, layout: Layout) -> None:
    """Like check_same_photos, for a raw data folder that has not been read yet; nothing is read if it did not move."""
    if is_recorded_place(folder, layout):
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
    """Raise UserError if --data.root names other photos than those that a folder was prepared from.

    For commands that read raw photos without comparing them with the record. tables: `images`, `evaluation` or both.
    Nothing is read without the flag, or if it names the recorded place.
    """
    root, meta = prepared.places.root, prepared.meta
    if root is None or _names(meta["root"], root, prepared.folder):
        return
    for table in tables:
        expected = meta["fingerprint" if table is prepared.images else "eval_fingerprint"]
        if fingerprint(table, _hashes(prepared.photo_paths(table), root)) != expected:
            raise UserError(
                f"--data.root {root}: its photos differ from those that {prepared.folder} was prepared from; give the "
                "data folder that it was prepared from"
            )


def _hashes(paths: list[Path], root: Path) -> list[str]:
    """The sha1 of files, which are not decoded; empty for a missing file."""
    return list(parallel_map(_sha1, paths, f"checking {root}", "photos"))


def _sha1(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha1").hexdigest()
    except FileNotFoundError:
        return ""


def has_same_content(folder: Path, before: dict, tables: dict[str, pd.DataFrame | None], meta: dict) -> bool:
    """Whether a prepared folder and what is about to be written there differ only in places and names on disk.

    before, meta: the old and the new dataset.json. tables: the new tables by the names of their files.
    """
    return _content(before) == _content(meta) and all(
        table is None or table.empty or _without_paths(read_prepared_table(folder, name)) == _without_paths(table)
        for name, table in tables.items()
    )


def _content(meta: dict) -> list:
    corrections = meta["corrections"] and meta["corrections"] | {"file": ""}
    keys = ("counts", "fold_seed", "fingerprint", "eval_fingerprint")
    return [corrections, skipped_people(meta), skipped_eval_ids(meta), *map(meta.get, keys)]


def _without_paths(table: pd.DataFrame) -> str:
    return table.drop(columns="path", errors="ignore").to_csv(index=False)
