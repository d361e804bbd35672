"""Whether a prepared folder was made from the photos of a raw data folder, wherever both lie now."""

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


def is_recorded_place(folder: Path, layout: Layout) -> bool:
    """Whether dataset.json of a prepared folder names this raw data folder, or stood in one project with it."""
    meta = read_meta(folder)
    return all(_names(Path(meta[key]), place, folder) for key, place in _places(layout).items())


def _places(layout: Layout) -> dict[str, Path]:
    return {"root": layout.root, "eval": layout.eval_dir}


def _names(recorded: Path, place: Path, folder: Path) -> bool:
    if recorded.is_absolute() and recorded.exists():
        return place.exists() and recorded.samefile(place)
    if not place.exists():
        return recorded == place or not any(other.exists() for other in possible_paths(recorded, folder))
    return any(other.exists() and other.samefile(place) for other in possible_paths(recorded, folder))


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
            f"{folder}: was prepared from {meta['root']}, whose photos differ from those in {layout.root}; choose "
            "another prepared folder (--data.prepared, or --out of prepare.py)"
        )


def check_same_data(folder: Path, layout: Layout) -> None:
    """Like check_same_photos, for a raw data folder that has not been read yet; nothing is read if it did not move."""
    if is_recorded_place(folder, layout):
        return
    catalog = read_catalog(layout)
    evaluation = pd.DataFrame(columns=["image_id", "path"]) if catalog.evaluation is None else catalog.evaluation
    check_same_photos(folder, layout, *(_hashed_photos(table, layout.root) for table in (catalog.images, evaluation)))


def _hashed_photos(table: pd.DataFrame, root: Path) -> CheckedPhotos:
    """A table of photos with their sha1; they are not decoded."""
    paths = [root / path for path in table.path]
    return CheckedPhotos(table, list(parallel_map(_sha1, paths, f"checking {root}", "photos")), [None] * len(paths))


def _sha1(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()
