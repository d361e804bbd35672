"""Read photos in threads while models predict earlier photos."""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskfold.config.experiment import Data
from maskfold.errors import UserError
from maskfold.inference.loaded_run import read_input
from maskfold.loading.store import store_name
from maskfold.machine_limits import num_cores
from maskfold.new_photos.photo_list import path_exists

# Chunks of photos that are read while an earlier chunk is predicted.
CHUNKS_AHEAD = 2


class Inputs(NamedTuple):
    """A photo as the input of models: by key of `preprocessing_key`, uint8 [*image_size, 3].

    error: what is wrong with the file and what to do, or an empty string. A photo with an error is black.
    """

    by_key: dict[str, np.ndarray]
    error: str


def preprocessing_key(data: Data) -> str:
    """Text that is equal for two configurations if they crop and resize photos in the same way."""
    return f"{store_name(data, '', ())} {data.image_size}"


def read_chunks(paths: Sequence[Path], configs: Sequence[Data], chunk_size: int) -> Generator[list[Inputs], None, None]:
    """Yield the photos in chunks, in order. One thread per core reads CHUNKS_AHEAD chunks ahead.

    configs: the configurations of the data with which the models were trained.
    """
    data_by_key = {preprocessing_key(data): data for data in configs}
    pool, pending = ThreadPoolExecutor(num_cores()), deque[list[Future[Inputs]]]()
    try:
        for start in range(0, len(paths), chunk_size):
            pending.append([pool.submit(_read, path, data_by_key) for path in paths[start : start + chunk_size]])
            if len(pending) > CHUNKS_AHEAD:
                yield [future.result() for future in pending.popleft()]
        while pending:
            yield [future.result() for future in pending.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def _read(path: Path, data_by_key: dict[str, Data]) -> Inputs:
    try:
        if not path_exists(path):
            raise UserError(f"{path}: not found; correct the path, or restore the photo")
        return Inputs({key: read_input(path, data) for key, data in data_by_key.items()}, "")
    except UserError as error:
        # A black photo keeps the other photos of the batch in their places, so that their predictions do not depend on
        # this file: the last bits of a model's output depend on the size of the batch.
        black = {key: np.zeros((*data.image_size, 3), np.uint8) for key, data in data_by_key.items()}
        return Inputs(black, str(error).removeprefix(f"{path}: "))
