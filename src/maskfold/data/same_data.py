"""Whether a prepared folder was made from the photos of a raw data folder, wherever both lie now."""

import hashlib
from pathlib import Path

from maskfold.data.catalog import read_catalog
from maskfold.data.images_table import EVALUATION, IMAGES, fingerprint, read_meta, read_prepared_table
from maskfold.data.raw_layout import Layout
from maskfold.errors import UserError
from maskfold.places import possible_places
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
        return recorded == place or not any(other.exists() for other in possible_places(recorded, folder))
    return any(other.exists() and other.samefile(place) for other in possible_places(recorded, folder))


def check_same_photos(folder: Path, layout: Layout, photos: dict[str, str], eval_photos: dict[str, str]) -> None:
    """Raise UserError if a prepared folder was made from other photos than those of another raw data folder.

    photos, eval_photos: image_id -> sha1 of the file, in the order of the tables. Labels may differ, by corrections.
    """
    meta, images = read_meta(folder), read_prepared_table(folder, IMAGES)
    is_same = set(images.image_id) == set(photos)
    is_same = is_same and fingerprint(images, [photos[name] for name in images.image_id]) == meta["fingerprint"]
    if is_same and meta["counts"].get("eval_images"):
        table = read_prepared_table(folder, EVALUATION)
        is_same = list(table.image_id) == list(eval_photos)
        is_same = is_same and fingerprint(table, list(eval_photos.values())) == meta["eval_fingerprint"]
    elif is_same:
        is_same = not eval_photos
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
    photos: dict[str, str] = {}
    eval_photos: dict[str, str] = {}
    for table, hashes in ((catalog.images, photos), (catalog.evaluation, eval_photos)):
        if table is not None:
            paths = [layout.root / path for path in table.path]
            hashes |= zip(table.image_id, parallel_map(_sha1, paths, f"checking {layout.root}", "photos"), strict=True)
    check_same_photos(folder, layout, photos, eval_photos)


def _sha1(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()
