"""Read torch.save files without running code in them and without exhausting the memory."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from maskfold.fileio import check_expansion

# The only function allowed by weights_only in a pickle that allocates as many bytes as its argument says.
FORBIDDEN = b"bytearray"
BLOCK_SIZE = 2**20


def load_torch_file(path: Path) -> Any:
    """Return the content of a torch.save file, with tensors on the CPU.

    Raises ValueError for FORBIDDEN content, and for a zip file that would fill the memory. torch.load raises
    UnpicklingError for other objects that are not allowed. A damaged file can raise an exception of nearly any type.
    """
    if any(FORBIDDEN in text for text in _pickled(path)):
        raise ValueError("it contains objects other than tensors, numbers and strings")
    return torch.load(path, map_location="cpu", weights_only=True)


def _pickled(path: Path) -> Iterator[bytes]:
    """Yield the whole pickle of a file in the zip format, or the content of a file in the old format in blocks.

    The blocks overlap, so that FORBIDDEN is found even if it spans two blocks.
    """
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
