"""The store: photos decoded and cropped once into a uint8 memory map, shared by all folds, runs and workers."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from maskfold.cache_folder import CacheFolder
from maskfold.config.experiment import Data
from maskfold.data.images_table import Prepared, fingerprint
from maskfold.errors import UserError, first_line
from maskfold.fileio import locked, may_be_incomplete, write_atomic, write_json
from maskfold.loading.crops import CROPS, reduction, store_size
from maskfold.loading.faces import face_rate_by_mask
from maskfold.loading.photo_array import UnmappedPhotos, open_photos, write_header
from maskfold.loading.stored_photo import read_stored_photo
from maskfold.progress import parallel_map

# Increase it with every change that alters stored pixels.
VERSION = 3


class Store:
    """store[row] -> RGB uint8 [H, W, 3]. Opened on first use in each process: pickling a memory map would copy it.


    cache: where features of these photos are kept. shape: the expected shape [N, H, W, 3]; None to accept any.
    """

    def __init__(self, path: Path, cache: CacheFolder | None = None, shape: tuple[int, ...] | None = None):
        self.path, self.cache, self.shape = path, cache or CacheFolder(), shape
        self._pixels: np.ndarray | UnmappedPhotos | None = None

    @property
    def pixels(self) -> np.ndarray | UnmappedPhotos:
        if self._pixels is None:
            try:
                pixels = open_photos(self.path)
                if pixels.dtype != np.uint8 or len(pixels.shape) != 4 or self.shape not in (None, pixels.shape):
                    raise ValueError(f"it holds {pixels.dtype} {pixels.shape}, not uint8 {self.shape}")
                self._pixels = pixels
            # A damaged header leads to errors of any type.
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
    """Several stores of one photo size as one; rows are numbered one store after the other."""

    def __init__(self, stores: Sequence[Store]):
        self.stores = stores
        self.starts = np.cumsum([0] + [len(store) for store in stores])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: int) -> np.ndarray:
        index = 0 if row < self.starts[1] else int(np.searchsorted(self.starts, row, "right")) - 1
        return self.stores[index][row - self.starts[index]]


def open_store(prepared: Prepared, table: pd.DataFrame, data: Data) -> Store:
    """Open the store of the table's photos, in its order; build it where it is missing.

    The file name contains a hash of all that the pixels depend on (photos, crop, sizes, decoder). It lies in --cache or
    in store/ of the prepared folder, or in a temporary folder where neither can hold it. Processes that start at the
    same time wait for the one that builds. Raises UserError where all disks are too full, and where a photo has changed
    since the data was prepared.
    """
    expected = prepared.meta["fingerprint" if table is prepared.images else "eval_fingerprint"]
    name, cache_folder = store_name(data, expected, table.image_id), prepared.places.cache
    default = prepared.folder / "store"
    path = next((path for folder in cache_folder.places(default) if _is_complete(path := folder / name)), None)
    if path is None:
        num_bytes = len(table) * int(np.prod(store_size(data))) * 3
        path = cache_folder.writable(default, num_bytes, "the store of decoded photos") / name
        with locked(path.parent):
            # Temporary files of killed processes: a process that still builds would hold the lock.
            for temporary in path.parent.glob(".*.npy"):
                temporary.unlink()
            if not _is_complete(path):
                _build(path, prepared, table, data, expected)
    return Store(path, cache_folder, (len(table), *store_size(data), 3))


def store_name(data: Data, photos_fingerprint: str, image_id: Iterable[str]) -> str:
    """The file name of a store. image_id: the ids of the photos in order."""
    size, keys = store_size(data), CROPS[data.crop].keys
    # Two entries, because the names of existing stores must not change.
    other_values = [getattr(data, key) for key in keys if key != "crop_size"]
    preprocessing = {
        "version": VERSION,
        "photos": photos_fingerprint,
        "ids": hashlib.sha256("\n".join(image_id).encode()).hexdigest(),
        "crop": [data.crop, data.crop_size if "crop_size" in keys else None],
        "face": other_values or None,
        "size": size,
        "decoder": cv2.__version__,
    }
    digest = hashlib.sha256(json.dumps(preprocessing, sort_keys=True).encode()).hexdigest()[:12]
    return f"{data.crop}-{size[0]}x{size[1]}-{digest}.npy"


def _is_complete(path: Path) -> bool:
    return path.exists() and not may_be_incomplete(path)


def _build(path: Path, prepared: Prepared, table: pd.DataFrame, data: Data, expected: str) -> None:
    paths = prepared.photo_paths(table)
    shape = (len(paths), *store_size(data), 3)

    def write(beside: Path) -> None:
        header = write_header(beside, shape)

        # Cached, since nearly all photos have one size.
        reduction_of = cache(lambda size: reduction(size, data))

        def fill(row: int) -> tuple[str, bool]:
            photo = read_stored_photo(paths[row], data, reduction_of)
            pixels = np.ascontiguousarray(photo.pixels)
            # Four times as fast as writing through a memory map, which takes a page fault per page.
            os.pwrite(file.fileno(), pixels.data, header + row * pixels.nbytes)
            return photo.sha1, photo.has_face

        with beside.open("rb+") as file:
            hashes, has_face = zip(*parallel_map(fill, range(len(paths)), "building the store", "photos"), strict=True)
        if fingerprint(table, hashes) != expected:
            raise UserError(
                f"{prepared.root}: photos have changed since they were prepared, or this is other data; give the data "
                f"folder that {prepared.folder} was prepared from with --data.root, or prepare the data again "
                f"(scripts/prepare.py --out {prepared.folder})"
            )
        if CROPS[data.crop].needs_face:
            _report_faces(path.with_suffix(".json"), table, has_face)

    # Not flushed: waiting for the disk would take a tenth of the building time. _is_complete checks for torn files.
    write_atomic(path, write, flush=False)


def _report_faces(path: Path, table: pd.DataFrame, has_face: tuple[bool, ...]) -> None:
    """Print the share of photos with a face; list beside the store the photos that got the centre crop instead."""
    without_face = [name for name, flag in zip(table.image_id, has_face, strict=True) if not flag]
    rates = face_rate_by_mask(table, has_face)
    write_json(path, {"found": rates, "center_crop": without_face})
    summary = ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items())
    print(f"faces found: {summary}; {len(without_face)} photos get the centre crop ({path})", file=sys.stderr)
