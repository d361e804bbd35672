"""List the photos that --photos names: files, folders, and CSV files with a column of paths."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from maskfold.data.raw_csv import read_table
from maskfold.errors import UserError
from maskfold.places import can_be_path, is_found

COLUMN = "path"
# In a folder, files with these endings are photos. Those that cannot be read, such as HEIC, get a row with an error.
ENDINGS = {
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".heic",
    ".heif",
    ".avif",
}


def list_photos(paths: Sequence[Path]) -> list[Path]:
    """Return the photos in the order of `paths`, which are photos, folders or CSV files with the column `path`.

    Folders are searched recursively; their photos are sorted by path, and hidden files are left out. A path in a CSV
    file is relative to the folder of the file or, if it is not there, to the working directory. A photo that is named
    twice is returned twice, and a photo that does not exist is returned too. Raises UserError if a CSV file cannot be
    read, or if there are no photos.
    """
    photos: list[Path] = []
    for path in paths:
        if can_be_path(path) and path.is_dir():
            photos += sorted(_photos_in(path))
        elif path.suffix.lower() == ".csv":
            photos += _photos_of_csv(path)
        else:
            photos.append(path)
    if not photos:
        raise UserError(
            f"--photos {' '.join(map(str, paths))}: there are no photos; give photos, folders of photos (jpg, jpeg or "
            f"png), or a CSV with the column {COLUMN}"
        )
    return photos


def _photos_in(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (
            Path(parent, name)
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in ENDINGS  # noqa: PTH122
        )


def _photos_of_csv(path: Path) -> list[Path]:
    def names_exist(table) -> bool:
        return all(path_exists(_beside(path, cell)) for cell in table[COLUMN])

    return [
        _beside(path, cell) for cell in read_table(path, (COLUMN,), may_be_empty=True, names_exist=names_exist)[COLUMN]
    ]


def _beside(csv: Path, cell: str) -> Path:
    beside = csv.parent / cell
    return Path(cell) if not path_exists(beside) and path_exists(Path(cell)) else beside


def path_exists(path: Path) -> bool:
    """Whether a path is valid and exists."""
    return can_be_path(path) and is_found(path)
