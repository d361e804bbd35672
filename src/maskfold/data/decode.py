"""A photo's bytes -> uint8 RGB, with a check for files that are empty, cut short or no image."""

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
# The start-of-frame markers: 0xC0 to 0xCF but for three that mean something else.
FRAMES = {0xC0 + n for n in range(16)} - {0xC4, 0xC8, 0xCC}
DECODERS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_REDUCED_COLOR_2 & ~cv2.IMREAD_COLOR),
    4: cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_REDUCED_COLOR_4 & ~cv2.IMREAD_COLOR),
    8: cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_REDUCED_COLOR_8 & ~cv2.IMREAD_COLOR),
}


class Photo(NamedTuple):
    """uint8 RGB [H, W, 3], by how much it was reduced while decoding, and the sha1 of the file's bytes."""

    image: np.ndarray
    reduced: int
    sha1: str


def photo_fault(content: bytes) -> str | None:
    """What is wrong with an image file, or None; cv2 decodes a file cut short to grey, so its end is looked for."""
    if not content:
        return "is empty (0 bytes)"
    if content.startswith(JPEG):
        # Inside a JPEG's scan 0xFF is always escaped, so an end marker behind the last scan's start is the real one.
        end = content.rfind(END)
        whole = end > 0 and content.find(SCAN, end) < 0 < content.find(SCAN, 0, end)
    elif content.startswith(PNG):
        return _png_fault(content)
    else:
        return "is no JPEG or PNG image"
    return None if whole else "is cut short"


def _png_fault(content: bytes) -> str | None:
    """Walks the chunks (length, name, data, checksum) to the last: libpng itself would print to stderr."""
    at = len(PNG)
    while at + 12 <= len(content):
        length, name = struct.unpack(">I4s", content[at : at + 8])
        body, checksum = content[at + 4 : at + 8 + length], content[at + 8 + length : at + 12 + length]
        if len(checksum) < 4:
            return "is cut short"
        if zlib.crc32(body) != int.from_bytes(checksum):
            return "is damaged (a checksum is wrong)"
        if name == b"IEND":
            return None
        at += 12 + length
    return "is cut short"


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """(height, width) by a JPEG's first frame header (ITU-T T.81, B.2.2), or None where there is none."""
    at = len(JPEG)
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4])
        if marker in FRAMES:
            return int.from_bytes(content[at + 5 : at + 7]), int.from_bytes(content[at + 7 : at + 9])
        # A marker may be filled up with more 0xFF.
        at += 1 if marker == 0xFF else 2 + length
    return None


def decode(content: bytes, reduced: int = 1) -> np.ndarray | None:
    """uint8 RGB [H, W, 3], or None where it is no image. Reduced to 1/2, 1/4 or 1/8, a JPEG costs a half to a fifth."""
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), DECODERS[reduced])
    except cv2.error:
        return None


def check_photo(path: Path) -> tuple[str, str | None]:
    """Read a whole photo: (sha1 of its bytes, what is wrong with it or None)."""
    content = path.read_bytes()
    fault = photo_fault(content)
    if fault is None and decode(content, 8 if content.startswith(JPEG) else 1) is None:
        fault = "can't be decoded"
    return hashlib.sha1(content).hexdigest(), fault and f"{path}: {fault}; replace the photo"


def read_photo(path: Path, reduction: Callable[[tuple[int, int]], int] = lambda size: 1) -> Photo:
    """A photo whole, or a JPEG shrunk while decoding to 1 / reduction((height, width)).

    Raises UserError for a file missing, cut short or no image.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: the photo is gone since the data was prepared; put it back") from None
    fault = photo_fault(content)
    size = None if fault or not content.startswith(JPEG) else jpeg_size(content)
    reduced = reduction(size) if size else 1
    image = None if fault else decode(content, reduced)
    if image is None:
        reason = fault or "can't be decoded"
        raise UserError(f"{path}: {reason}; replace the photo and prepare the data again")
    return Photo(image, reduced, hashlib.sha1(content).hexdigest())
