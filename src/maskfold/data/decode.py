"""Decode photos to uint8 RGB, and check for files that are empty, truncated or not an image."""

import hashlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from maskfold.errors import UserError

PNG = b"\x89PNG\r\n\x1a\n"
JPEG, SCAN, END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
# The start-of-frame markers: 0xC0 to 0xCF without three markers of other segments.
FRAMES = {0xC0 + n for n in range(16)} - {0xC4, 0xC8, 0xCC}
DECODERS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_REDUCED_COLOR_2 & ~cv2.IMREAD_COLOR),
    4: cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_REDUCED_COLOR_4 & ~cv2.IMREAD_COLOR),
    8: cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_REDUCED_COLOR_8 & ~cv2.IMREAD_COLOR),
}


class Photo(NamedTuple):
    """image: uint8 RGB [H, W, 3]; reduced: the factor by which decoding shrank it; sha1: of the file's bytes."""

    image: np.ndarray
    reduced: int
    sha1: str


def photo_fault(content: bytes) -> str | None:
    """What is wrong with the content of an image file, or None.

    cv2 fills the missing part of a truncated file with grey, so the end of the file is checked here.
    """
    if not content:
        return "is empty (0 bytes)"
    if content.startswith(JPEG):
        # In the scan of a JPEG 0xFF is always escaped, so an end marker after the start of the last scan is genuine.
        end = content.rfind(END)
        complete = end > 0 and content.find(SCAN, end) < 0 < content.find(SCAN, 0, end)
    elif content.startswith(PNG):
        return _png_fault(content)
    else:
        return "is not a JPEG or PNG image"
    return None if complete else "is truncated"


def _png_fault(content: bytes) -> str | None:
    """Check the chunks (length, name, data, checksum) up to the last one; libpng would print to stderr."""
    start = len(PNG)
    while start + 12 <= len(content):
        length, name = struct.unpack(">I4s", content[start : start + 8])
        end = start + 8 + length
        body, checksum = content[start + 4 : end], content[end : end + 4]
        if len(checksum) < 4:
            return "is truncated"
        if zlib.crc32(body) != int.from_bytes(checksum):
            return "is damaged (a checksum is wrong)"
        if name == b"IEND":
            return None
        start = end + 4
    return "is truncated"


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """(height, width) in the first frame header of a JPEG (ITU-T T.81, B.2.2), or None if there is none."""
    start = len(JPEG)
    while start + 9 <= len(content) and content[start] == 0xFF:
        marker, length = content[start + 1], int.from_bytes(content[start + 2 : start + 4])
        if marker in FRAMES:
            return int.from_bytes(content[start + 5 : start + 7]), int.from_bytes(content[start + 7 : start + 9])
        # A marker may be padded with more 0xFF.
        start += 1 if marker == 0xFF else 2 + length
    return None


def decode_photo(content: bytes, reduced: int = 1) -> np.ndarray | None:
    """Decode to uint8 RGB [H, W, 3], or None if it is not an image.

    reduced: 1, 2, 4 or 8; shrinking a JPEG while decoding takes a half to a fifth of the time.
    """
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), DECODERS[reduced])
    except cv2.error:
        return None


def inspect_photo(path: Path) -> tuple[str, str | None]:
    """Read and decode a photo: (sha1 of its bytes, what is wrong with it or None)."""
    content = path.read_bytes()
    fault = photo_fault(content)
    if fault is None and decode_photo(content, 8 if content.startswith(JPEG) else 1) is None:
        fault = "cannot be decoded"
    return hashlib.sha1(content).hexdigest(), fault and f"{path}: {fault}; replace the photo"


def read_photo(path: Path, reduction: Callable[[tuple[int, int]], int] = lambda size: 1) -> Photo:
    """Read a photo; a JPEG is shrunk while decoding to 1 / reduction((height, width)) of its size.

    Raises UserError if the file is missing, truncated or not an image.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: the photo is missing, but was there when the data was prepared; restore it") from None
    fault = photo_fault(content)
    size = None if fault or not content.startswith(JPEG) else jpeg_size(content)
    reduced = reduction(size) if size else 1
    image = None if fault else decode_photo(content, reduced)
    if image is None:
        reason = fault or "cannot be decoded"
        raise UserError(f"{path}: {reason}; replace the photo and prepare the data again")
    return Photo(image, reduced, hashlib.sha1(content).hexdigest())
