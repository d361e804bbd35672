"""Read files of torch.save without running code in them and without filling the memory."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from maskfold.fileio import check_expansion

# The only function that torch allows in a pickle and whose argument may be the number of bytes to allocate.
FORBIDDEN = b"bytearray"
BLOCK_SIZE = 2**20


def load_torch_file(path: Path) -> Any:
    """Return the content of a torch.save file, on the CPU.

    A damaged file can raise an exception of nearly any type, depending on where it is damaged.
    """
    if any(FORBIDDEN in text for text in _pickled(path)):
        raise ValueError("it holds other objects than tensors, numbers and texts")
    return torch.load(path, map_location="cpu", weights_only=True)


def _pickled(path: Path) -> Iterator[bytes]:
    """Yield the pickle of a file in the zip format; of a file in the old format, yield overlapping blocks."""
    if zipfile.is_zipfile(path):
        check_expansion(path)
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
        return
    with path.open("rb") as file:
        before = b""
        while block := file.read(BLOCK_SIZE):
            yield before + block
            before = block[-len(FORBIDDEN) :]
