"""Photos decoded once into a uint8 memory map, shared by all folds, runs and workers."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from maskfold.config.experiment import Data
from maskfold.data.decode import read_photo
from maskfold.data.images_table import Prepared, fingerprint
from maskfold.errors import UserError, first_line
from maskfold.fileio import locked, perhaps_torn, write_atomic, write_json
from maskfold.loading.crops import CROPS, crop_and_resize, reduction, store_size
from maskfold.loading.faces import face_for_crop, found_by_mask
from maskfold.progress import parallel

# Goes up with whatever changes a stored pixel.
VERSION = 2


class Store:
    """store[row] -> uint8 RGB [H, W, 3]. Opened lazily in each process: a pickled memory map is a copy of the file."""

    def __init__(self, path: Path):
        self.path = path
        self._photos: np.ndarray | None = None

    @property
    def photos(self) -> np.ndarray:
        if self._photos is None:
            try:
                self._photos = np.load(self.path, mmap_mode="r")
            except (ValueError, EOFError, OSError) as fault:
                raise UserError(
                    f"{self.path}: no readable store ({first_line(fault)}); delete it, it is built again"
                ) from fault
        return self._photos

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.photos[row]

    def __getstate__(self) -> dict:
        return {"path": self.path, "_photos": None}


class Stores:
    """Several of one size as one: the rows of the second follow those of the first."""

    def __init__(self, stores: Sequence[Store]):
        self.stores = stores
        self.starts = np.cumsum([0] + [len(store) for store in stores])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: int) -> np.ndarray:
        at = 0 if row < self.starts[1] else int(np.searchsorted(self.starts, row, "right")) - 1
        return self.stores[at][row - self.starts[at]]


def open_store(prepared: Prepared, table: pd.DataFrame, data: Data) -> Store:
    """The store of `table`'s photos in its order, built where it is missing.

    Its name holds all that its content depends on (photos, crop, sizes, decoder): another is another file.
    Processes that start at once wait for the one that builds. Raises UserError where the disk is too full,
    and where a photo is not the one that was prepared.
    """
    size = store_size(data)
    expected = prepared.meta["fingerprint" if table is prepared.images else "eval_fingerprint"]
    view = {
        "version": VERSION,
        "photos": expected,
        "ids": hashlib.sha256("\n".join(table.image_id).encode()).hexdigest(),
        "crop": [data.crop, data.crop_size if data.crop != "none" else None],
        "face": [data.face_margin, data.image_size] if CROPS[data.crop].needs_face else None,
        "size": size,
        "decoder": cv2.__version__,
    }
    name = hashlib.sha256(json.dumps(view, sort_keys=True).encode()).hexdigest()[:12]
    path = prepared.folder / "store" / f"{data.crop}-{size[0]}x{size[1]}-{name}.npy"
    if not _whole(path):
        with locked(path.parent):
            for left in path.parent.glob(".*.npy"):
                # Of a process that was killed: whoever builds holds the lock.
                left.unlink()
            if not _whole(path):
                _build(path, prepared, table, data, expected)
    return Store(path)


def _whole(path: Path) -> bool:
    return path.exists() and not perhaps_torn(path)


def _build(path: Path, prepared: Prepared, table: pd.DataFrame, data: Data, expected: str) -> None:
    photos = prepared.photo_paths(table)
    shape = (len(photos), *store_size(data), 3)
    need, free = int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if need > free:
        raise UserError(
            f"{path.parent}: the store takes {need / 2**20:,.0f} MiB, {free / 2**20:,.0f} are free; make room"
        )

    def write(beside: Path) -> None:
        header = np.lib.format.open_memmap(beside, "w+", np.uint8, shape).offset

        # Nearly all photos are of one size.
        by_size = cache(lambda size: reduction(size, data))

        def fill(row: int) -> tuple[str, bool]:
            photo = read_photo(photos[row], by_size)
            face = face_for_crop(photo.image, data)
            image = np.ascontiguousarray(crop_and_resize(photo.image, data, face, photo.reduced))
            # A quarter of what writing through a memory map costs, which faults in page after page.
            os.pwrite(file.fileno(), image.data, header + row * image.nbytes)
            return photo.sha1, face is not None

        with beside.open("rb+") as file:
            contents, found = zip(*parallel(fill, range(len(photos)), "building the store", "photos"), strict=True)
        if fingerprint(table, contents) != expected:
            raise UserError(
                f"{prepared.meta['root']}: photos have changed since they were prepared; prepare the data again "
                f"(scripts/prepare.py --out {prepared.folder})"
            )
        if CROPS[data.crop].needs_face:
            _tell_faces(path.with_suffix(".json"), table, found)

    # Some 60 KB a photo: waiting for the disk would take a tenth of the building.
    write_atomic(path, write, flush=False)


def _tell_faces(path: Path, table: pd.DataFrame, found: tuple[bool, ...]) -> None:
    """Print how many faces were found, and list beside the store the photos that got the centre crop instead."""
    missed = [name for name, there in zip(table.image_id, found, strict=True) if not there]
    shares = found_by_mask(table, found)
    write_json(path, {"found": shares, "center_crop": missed})
    said = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    print(f"faces found: {said}; {len(missed)} photos get the centre crop ({path})", file=sys.stderr)
