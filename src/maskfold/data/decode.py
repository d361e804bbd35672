"""Read photos: return the pixels that a viewer shows, or report what is wrong with the file."""

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskfold.errors import UserError
from maskfold.photos.file_kinds import JPEG, REPLACE, kind_fault
from maskfold.photos.jpeg_damage import data_fault, read_jpeg
from maskfold.photos.jpeg_header import JpegHeader
from maskfold.photos.pixels import decode_jpeg, decode_png
from maskfold.photos.png_chunks import PngHeader, read_png

CANNOT_DECODE = f"cannot be decoded; {REPLACE}"


class Photo(NamedTuple):
    """A decoded photo.

    image: uint8 sRGB [H, W, 3]; reduced: factor by which decoding has shrunk the image; sha1: hash of the file's bytes.
    """

    image: np.ndarray
    reduced: int
    sha1: str


def _read_header(content: bytes) -> tuple[JpegHeader | PngHeader | None, str | None]:
    """Return (header, fault). fault: what is wrong with the file and what to do, or None.

    The pixels are not decoded, except to check a JPEG that has no end marker.
    """
    if fault := kind_fault(content):
        return None, fault
    if content.startswith(JPEG):
        return read_jpeg(content)
    return read_png(content)


def _decode(content: bytes, header: JpegHeader | PngHeader | None, reduced: int) -> np.ndarray | None:
    if isinstance(header, JpegHeader):
        return decode_jpeg(header, reduced)
    return None if header is None else decode_png(content, header)


def photo_fault(content: bytes) -> str | None:
    """Decode a whole photo file. Return what is wrong with it and what to do, or None."""
    header, fault = _read_header(content)
    if fault is None and isinstance(header, JpegHeader):
        fault = data_fault(header)
        if header.icc_profile is None:
            return fault
    # data_fault skips the colour conversion, which can fail for an invalid profile. A PNG is checked by decoding it.
    if fault is None and _decode(content, header, 8) is None:
        fault = CANNOT_DECODE
    return fault


def inspect_photo(path: Path) -> tuple[str, str | None]:
    """Read and decode a photo. Return (sha1, fault).

    sha1: hash of the file's bytes, empty if the file cannot be read. fault: what is wrong and what to do, or None.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        return "", _reading_fault(error)
    return hashlib.sha1(content).hexdigest(), photo_fault(content)


def _reading_fault(error: OSError) -> str:
    """Return what is wrong with a file and what to do. Raise the error again if the cause is too many open files."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise error
    return f"cannot be read ({error.strerror}); make the file readable, or {REPLACE}"


def read_photo(
    path: Path, reduction: Callable[[tuple[int, int]], int] = lambda size: 1, check_damage: bool = False
) -> Photo:
    """Read a photo. A JPEG is shrunk while it is decoded, by the factor reduction((height, width)).

    check_damage: also find damage inside a JPEG, which takes 50 % longer and is not needed after prepare.py.
    Raises UserError if the file is missing, damaged or not an image.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: the photo is missing, but was there when the data was prepared; restore it") from None
    except OSError as error:
        raise UserError(f"{path}: {_reading_fault(error)}") from None
    header, fault = _read_header(content)
    reduced = 1
    if fault is None and isinstance(header, JpegHeader):
        reduced = reduction((header.height, header.width))
        fault = data_fault(header) if check_damage else None
    image = None if fault else _decode(content, header, reduced)
    if image is None:
        raise UserError(f"{path}: {fault or CANNOT_DECODE}")
    return Photo(image, reduced, hashlib.sha1(content).hexdigest())
