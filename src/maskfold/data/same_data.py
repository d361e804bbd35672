"""Check whether a prepared folder was made from the photos of a raw data folder, even if both folders were moved."""

from __future__ import annotations

import errno
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from maskfold.data.catalog import Catalog, raise_faults, read_catalog
from maskfold.data.damaged_photos import CHECKED_BY, CheckedPhotos, check_photos, skipped_eval_ids, skipped_people
from maskfold.data.dataset_record import fingerprint
from maskfold.data.images_table import IMAGES_FILE, Prepared, read_meta, read_prepared_table
from maskfold.data.raw_layout import Layout
from maskfold.errors import UserError
from maskfold.places import possible_paths
from maskfold.progress import parallel_map

if TYPE_CHECKING:
    import pandas as pd


class _UnreadableError(OSError):
    """A file cannot be read for a reason other than too many open files."""


def is_recorded_folder(folder: Path, layout: Layout) -> bool:
    """Whether dataset.json in the prepared folder `folder` records the paths of this raw data folder.

    This is also true if both folders were moved together, as parts of one project.
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


def root_exists(folder: Path, meta: dict) -> bool:
    """Whether the raw data folder that dataset.json records still exists, perhaps moved together with `folder`."""
    return next(possible_paths(Path(meta["root"]), folder), None) is not None


def check_same_photos(folder: Path, layout: Layout, photos: CheckedPhotos, eval_photos: CheckedPhotos) -> None:
    """Raise UserError if the photos of a prepared folder differ from those of a raw data folder."""
    if not has_same_photos(folder, photos, eval_photos):
        root = read_meta(folder)["root"]
        raise UserError(
            f"{folder}: was prepared from {root}, whose photos differ from those in {layout.root}; give the data "
            "folder that it was prepared from, or use another prepared folder (--data.prepared, or --out of prepare.py)"
        )


def has_same_photos(folder: Path, photos: CheckedPhotos, eval_photos: CheckedPhotos) -> bool:
    """Whether a prepared folder has the photos of a raw data folder.

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
    return is_same


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
    check_same_photos(folder, layout, *hash_photos(catalog, layout.root))


def hash_photos(catalog: Catalog, root: Path) -> tuple[CheckedPhotos, CheckedPhotos]:
    """Hash the training and the eval photos without decoding them. All returned faults are None."""
    train, evaluation = (
        CheckedPhotos(table, _hashes([root / path for path in table.path], root), [None] * len(table))
        for table in (catalog.images, catalog.eval_table)
    )
    return train, evaluation


def check_changed_photos(
    catalog: Catalog, layout: Layout, folder: Path, old_meta: dict | None
) -> tuple[CheckedPhotos, CheckedPhotos]:
    """Check the training and the eval photos. They are not decoded if the last check is still valid.

    The last check is valid if it skipped no photo, and if neither the photos nor CHECKED_BY have changed since then.
    old_meta: dataset.json of the prepared folder; None if the folder is new or was prepared from other raw data.
    """
    if old_meta is not None and old_meta.get("checked_by") == CHECKED_BY and old_meta.get("skipped") is None:
        # These errors are not reported here: a damaged images.csv is written again later, and check_photos lists all
        # photos that cannot be read.
        with suppress(UserError, KeyError, _UnreadableError):
            hashed = hash_photos(catalog, layout.root)
            if has_same_photos(folder, *hashed):
                return hashed
    return check_photos(catalog.images, layout.root), check_photos(catalog.eval_table, layout.root)


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
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        raise _UnreadableError(error.errno, error.strerror, error.filename) from error


def has_same_content(folder: Path, old_meta: dict, tables: dict[str, pd.DataFrame | None], meta: dict) -> bool:
    """Whether the new and present contents of a prepared folder are equal, apart from paths, warnings and checked_by.

    old_meta, meta: the old and the new dataset.json. tables: the new tables by file name.
    """
    return _content(old_meta) == _content(meta) and all(
        table is None or table.empty or _without_paths(read_prepared_table(folder, name)) == _without_paths(table)
        for name, table in tables.items()
    )


def changed_data_error(folder: Path, layout: Layout) -> UserError:
    """The error for raw data whose labels, photos or eval set are no longer those of its prepared folder."""
    return UserError(
        f"{folder}: the labels, photos or eval set in {layout.root} have changed since they were prepared; restore "
        f"them, or prepare the data again (scripts/prepare.py --data {layout.root} --out {folder}), or use another "
        "data.prepared"
    )


def _content(meta: dict) -> list:
    corrections = meta["corrections"] and meta["corrections"] | {"file": ""}
    keys = ("counts", "fold_seed", "fingerprint", "eval_fingerprint")
    return [corrections, skipped_people(meta), skipped_eval_ids(meta), *map(meta.get, keys)]


def _without_paths(table: pd.DataFrame) -> str:
    return table.drop(columns="path", errors="ignore").to_csv(index=False)
