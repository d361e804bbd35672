"""A photo's bytes -> uint8 RGB, with a check for files that are empty, cut short or no image."""

import hashlib
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from maskfold.errors import UserError

PNG = b"\x89PNG\r\n\x1a\n"


def photo_fault(content: bytes) -> str | None:
    """What is wrong with an image file, or None; cv2 decodes a file cut short to grey, so its end is looked for."""
    if not content:
        return "is empty (0 bytes)"
    if content.startswith(b"\xff\xd8"):
        # Inside a JPEG's scan 0xFF is always escaped, so an end marker behind the last scan's start is the real one.
        whole = content.rfind(b"\xff\xd9") > content.rfind(b"\xff\xda") > 0
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


def decode(content: bytes, reduced: bool = False) -> np.ndarray | None:
    """uint8 RGB [H, W, 3], or None where it is no image; a JPEG `reduced` to an eighth, for a quick look."""
    quick = reduced and not content.startswith(PNG)
    how = cv2.IMREAD_REDUCED_COLOR_8 if quick else cv2.IMREAD_COLOR_RGB
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), how)
    except cv2.error:
        return None


def check_photo(path: Path) -> tuple[str, str | None]:
    """Read a whole photo: (sha1 of its bytes, what is wrong with it or None)."""
    content = path.read_bytes()
    fault = photo_fault(content)
    if fault is None and decode(content, reduced=True) is None:
        fault = "can't be decoded"
    return hashlib.sha1(content).hexdigest(), fault and f"{path}: {fault}; replace the photo"


def read_photo(path: Path) -> tuple[np.ndarray, str]:
    """(uint8 RGB [H, W, 3], sha1 of the bytes). Raises UserError for a file missing, cut short or no image."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: the photo is gone since the data was prepared; put it back") from None
    fault = photo_fault(content)
    image = None if fault else decode(content)
    if image is None:
        reason = fault or "can't be decoded"
        raise UserError(f"{path}: {reason}; replace the photo and prepare the data again")
    return image, hashlib.sha1(content).hexdigest()
