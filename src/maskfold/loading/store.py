"""The store: photos decoded and cropped once into a uint8 memory map, shared by all folds, runs and workers."""

import hashlib
import json
import os
import sys
import weakref
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import cv2
import numpy as np

from maskfold import locks
from maskfold.cache_folder import CacheFolder
from maskfold.config.experiment import Data
from maskfold.data.dataset_record import fingerprint
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError, first_line
from maskfold.fileio import may_be_incomplete, write_atomic, write_json
from maskfold.loading.crops import CROPS, reduction, store_size
from maskfold.loading.faces import face_rate_by_mask
from maskfold.loading.photo_array import UnmappedPhotos, open_photos, write_header
from maskfold.loading.stored_photo import read_stored_photo
from maskfold.locks import hold, locked
from maskfold.progress import parallel_map

if TYPE_CHECKING:
    import pandas as pd

# Increase the version with every change that alters stored pixels.
VERSION = 3


class Store:
    """The stored photos: store[row] is RGB uint8 [H, W, 3].

    Each process opens the file itself, at first use, because pickling a memory map would copy the photos. cache: the
    cache folder for features of these photos. shape: the expected shape [N, H, W, 3]; None: any. handle: the open file
    of the store. It stays open until this object is deleted; clean.py does not delete the file before that.
    """

    def __init__(
        self,
        path: Path,
        cache: CacheFolder | None = None,
        shape: tuple[int, ...] | None = None,
        handle: BinaryIO | None = None,
    ):
        self.path, self.cache, self.shape = path, cache or CacheFolder(), shape
        self._pixels: np.ndarray | UnmappedPhotos | None = None
        if handle is not None:
            weakref.finalize(self, handle.close)

    @property
    def pixels(self) -> np.ndarray | UnmappedPhotos:
        if self._pixels is None:
            try:
                self._pixels = _open_checked(self.path, self.shape)
            # A damaged header can raise an exception of any type.
            except Exception as error:
                raise UserError(
                    f"{self.path}: not a readable store ({first_line(error)}); delete the file to build it again"
                ) from error
        return self._pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.pixels[row]

    def __getstate__(self) -> dict:
        return {"path": self.path, "cache": self.cache, "shape": self.shape, "_pixels": None}


class ConcatStore:
    """Several stores, used as one: the rows of the second follow those of the first. All photos have the same size."""

    def __init__(self, stores: Sequence[Store]):
        self.stores = stores
        self.starts = np.cumsum([0] + [len(store) for store in stores])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: int) -> np.ndarray:
        index = 0 if row < self.starts[1] else int(np.searchsorted(self.starts, row, "right")) - 1
        return self.stores[index][row - self.starts[index]]


def _open_checked(path: Path, shape: tuple[int, ...] | None) -> np.ndarray | UnmappedPhotos:
    """Open the photos of a store and check their dtype and shape. A damaged file can raise an exception of any type."""
    pixels = open_photos(path)
    if pixels.dtype != np.uint8 or len(pixels.shape) != 4 or shape not in (None, pixels.shape):
        raise ValueError(f"it contains {pixels.dtype} {pixels.shape}, not uint8 {shape or '[N, H, W, 3]'}")
    return pixels


def open_store(prepared: Prepared, table: "pd.DataFrame", data: Data) -> Store:
    """Open the store of the table's photos, in the order of the table; build the store if it is missing or damaged.

    The file name contains a hash of everything that the pixels depend on (photos, crop, sizes, decoder). An existing
    file is looked up in --cache, then in store/ of the prepared folder. A new file is written to --cache if it is
    given, else to store/. If that folder cannot hold it, a temporary folder is used. While one process builds, others
    wait. Raises UserError if no folder has room, or if a photo is unreadable or has changed since it was prepared.
    """
    expected = prepared.meta["fingerprint" if table is prepared.images else "eval_fingerprint"]
    name, cache_folder = store_name(data, expected, table.image_id), prepared.places.cache
    default, shape = prepared.folder / "store", (len(table), *store_size(data), 3)
    while True:
        paths = [folder / name for folder in cache_folder.folders(default)]
        usable = next((path for path in paths if _is_usable(path, shape, cache_folder)), None)
        path = usable or cache_folder.choose_folder(default, int(np.prod(shape)), "the store of decoded photos") / name
        if usable is None:
            with locked(path.parent):
                # While this process holds the lock, no other one is building: these files are from killed processes.
                for temporary in path.parent.glob(".*.npy") if locks.locks_enabled else ():
                    temporary.unlink()
                if not _is_usable(path, shape, cache_folder):
                    _build(path, prepared, table, data, expected)
        # `hold` returns None if clean.py has deleted the file in the meantime.
        if (handle := hold(path)) is not None:
            return Store(path, cache_folder, shape, handle)


def store_name(data: Data, photos_fingerprint: str, image_id: Iterable[str]) -> str:
    """Return the file name of a store. image_id: the ids of the photos in the order of the table."""
    size, keys = store_size(data), CROPS[data.crop].keys
    # crop_size is in the entry `crop` and not in `face`, so that the names of existing stores do not change.
    preprocessing = {
        "version": VERSION,
        "photos": photos_fingerprint,
        "ids": hashlib.sha256("\n".join(image_id).encode()).hexdigest(),
        "crop": [data.crop, data.crop_size if "crop_size" in keys else None],
        "face": [getattr(data, key) for key in keys if key != "crop_size"] or None,
        "size": size,
        "decoder": cv2.__version__,
    }
    # With data.decode reduced, the names stay those of existing stores. With crop face, data.decode has no effect.
    preprocessing |= {"decode": "full"} if data.decode == "full" and not CROPS[data.crop].needs_face else {}
    digest = hashlib.sha256(json.dumps(preprocessing, sort_keys=True).encode()).hexdigest()[:12]
    return f"{data.crop}-{size[0]}x{size[1]}-{digest}.npy"


def _is_usable(path: Path, shape: tuple[int, ...], cache_folder: CacheFolder) -> bool:
    """Whether a file is a complete store of this shape. Prints a note if the file is damaged or has another shape."""
    try:
        if may_be_incomplete(path):
            return False
        _open_checked(path, shape)
    except (FileNotFoundError, NotADirectoryError):
        return False
    # A damaged header can raise an exception of any type.
    except Exception as error:
        cache_folder.note(f"{path}: not a readable store ({first_line(error)}), so it is built again")
        return False
    return True


def _build(path: Path, prepared: Prepared, table: "pd.DataFrame", data: Data, expected: str) -> None:
    paths, shape = prepared.photo_paths(table), (len(table), *store_size(data), 3)

    def write(temporary: Path) -> None:
        pixels_start = write_header(temporary, shape)
        # Cached, since nearly all photos have the same size.
        reduction_of = cache(lambda size: reduction(size, data))

        def fill(row: int) -> tuple[str, bool]:
            photo = read_stored_photo(paths[row], data, reduction_of)
            pixels = np.ascontiguousarray(photo.pixels)
            # pwrite is four times as fast as writing through a memory map, which causes a page fault per page.
            os.pwrite(file.fileno(), pixels.data, pixels_start + row * pixels.nbytes)
            return photo.sha1, photo.has_face

        with temporary.open("rb+") as file:
            hashes, has_face = zip(*parallel_map(fill, range(len(paths)), "building the store", "photos"), strict=True)
        if fingerprint(table, hashes) != expected:
            raise UserError(
                f"{prepared.root}: photos have changed since they were prepared, or this is a different data set; set "
                f"--data.root to the data folder from which {prepared.folder} was prepared, or prepare the data again "
                f"(scripts/prepare.py --out {prepared.folder})"
            )
        if CROPS[data.crop].needs_face:
            _report_faces(path.with_suffix(".json"), table, has_face)

    # Flushing the file to disk would take long and is not needed, because _is_usable rejects an incomplete file.
    write_atomic(path, write, flush=False)


def _report_faces(path: Path, table: "pd.DataFrame", has_face: tuple[bool, ...]) -> None:
    """Print the shares of photos with a face. Write them and the ids of photos without a face to `path`."""
    without_face = [name for name, flag in zip(table.image_id, has_face, strict=True) if not flag]
    rates = face_rate_by_mask(table, has_face)
    write_json(path, {"found": rates, "center_crop": without_face})
    summary = ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items())
    fallback = f"{len(without_face)} photos without a face get the centre crop (listed in {path})"
    print(f"faces found: {summary}; {fallback}", file=sys.stderr)
