"""Photos decoded once into a uint8 memory map, shared by all folds, runs and workers."""

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from maskfold.config import Data
from maskfold.data.photos import read_photo
from maskfold.data.prepared import Prepared, fingerprint
from maskfold.data.transforms import crop_and_resize, store_size
from maskfold.errors import UserError
from maskfold.files import locked, write_atomic
from maskfold.progress import parallel


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
                raise UserError(f"{self.path}: no readable store ({fault}); delete it, it is built again") from fault
        return self._photos

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.photos[row]

    def __getstate__(self) -> dict:
        return {"path": self.path, "_photos": None}


def open_store(prepared: Prepared, table: pd.DataFrame, data: Data) -> Store:
    """The store of `table`'s photos in its order, built where it is missing.

    Its name holds all that its content depends on (photos, crop, sizes, decoder): another is another file.
    Processes that start at once wait for the one that builds. Raises UserError where the disk is too full,
    and where a photo is not the one that was prepared.
    """
    size = store_size(data)
    expected = prepared.meta["fingerprint" if table is prepared.images else "eval_fingerprint"]
    view = {
        "photos": expected,
        "ids": hashlib.sha256("\n".join(table.image_id).encode()).hexdigest(),
        "crop": [data.crop, data.crop_size if data.crop == "center" else None],
        "size": size,
        "decoder": cv2.__version__,
    }
    name = hashlib.sha256(json.dumps(view, sort_keys=True).encode()).hexdigest()[:12]
    path = prepared.folder / "store" / f"{data.crop}-{size[0]}x{size[1]}-{name}.npy"
    if not path.exists():
        with locked(path.parent):
            for left in path.parent.glob(".*.npy"):
                # Of a process that was killed: whoever builds holds the lock.
                left.unlink()
            if not path.exists():
                _build(path, prepared, table, data, expected)
    return Store(path)


def _build(path: Path, prepared: Prepared, table: pd.DataFrame, data: Data, expected: str) -> None:
    photos = prepared.photo_paths(table)
    shape = (len(photos), *store_size(data), 3)
    need, free = int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if need > free:
        raise UserError(
            f"{path.parent}: the store takes {need / 2**20:,.0f} MiB, {free / 2**20:,.0f} are free; make room"
        )

    def write(beside: Path) -> None:
        store = np.lib.format.open_memmap(beside, "w+", np.uint8, shape)

        def fill(row: int) -> str:
            image, content = read_photo(photos[row])
            store[row] = crop_and_resize(image, data)
            return content

        contents = list(parallel(fill, range(len(photos)), "building the store", "photos"))
        if fingerprint(table, contents) != expected:
            raise UserError(
                f"{prepared.meta['root']}: photos have changed since they were prepared; prepare the data again "
                f"(scripts/prepare.py --out {prepared.folder})"
            )
        store.flush()

    write_atomic(path, write)
