"""Check whether a prepared folder was made from the photos of a raw data folder, even if both folders were moved."""

import hashlib
from pathlib import Path

import pandas as pd

from maskfold.data.catalog import read_catalog
from maskfold.data.damaged_photos import CheckedPhotos, skipped_eval_ids, skipped_people
from maskfold.data.images_table import IMAGES_FILE, fingerprint, read_meta, read_prepared_table
from maskfold.data.raw_layout import Layout
from maskfold.errors import UserError
from maskfold.places import possible_paths
from maskfold.progress import parallel_map


def is_recorded_folder(folder: Path, layout: Layout) -> bool:
    """Whether the paths in dataset.json of the prepared folder `folder` are those of this raw data folder.

    Both folders may have been moved together, as parts of one project.
    """
    meta = read_meta(folder)
    paths = {"root": layout.root, "eval": layout.eval_dir}
    return all(_is_recorded(path, Path(meta[key]), folder) for key, path in paths.items())


def _is_recorded(path: Path, recorded: Path, folder: Path) -> bool:
    """Whether `recorded`, a path in dataset.json of the prepared folder `folder`, stands for `path`."""
    if recorded.is_absolute() and recorded.exists():
        return path.exists() and recorded.samefile(path)
    existing = (possible for possible in possible_paths(recorded, folder) if possible.exists())
    if not path.exists():
        return recorded == path or not any(existing)
    return any(possible.samefile(path) for possible in existing)


def check_same_photos(folder: Path, layout: Layout, photos: CheckedPhotos, eval_photos: CheckedPhotos) -> None:
    """Raise UserError if the photos of a prepared folder differ from those of a raw data folder.

    Photos that were left out of the prepared folder are not compared. Labels may differ, because of corrections.
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
            f"{folder}: was prepared from {meta['root']}, whose photos differ from those in {layout.root}; use "
            "another prepared folder (--data.prepared, or --out of prepare.py)"
        )


def check_same_data(folder: Path, layout: Layout) -> None:
    """Do the check of check_same_photos for a raw data folder that has not been read yet.

    The photos are not read if dataset.json of the prepared folder names this raw data folder.
    """
    if is_recorded_folder(folder, layout):
        return
    catalog = read_catalog(layout)
    evaluation = pd.DataFrame(columns=["image_id", "path"]) if catalog.evaluation is None else catalog.evaluation
    check_same_photos(folder, layout, *(_hashed_photos(table, layout.root) for table in (catalog.images, evaluation)))


def _hashed_photos(table: pd.DataFrame, root: Path) -> CheckedPhotos:
    """Add the sha1 of each photo to a table of photos. The photos are not decoded."""
    paths = [root / path for path in table.path]
    return CheckedPhotos(table, list(parallel_map(_sha1, paths, f"checking {root}", "photos")), [None] * len(paths))


def _sha1(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()
