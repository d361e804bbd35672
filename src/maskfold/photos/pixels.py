"""Decode JPEG and PNG to the pixels that a viewer shows, as uint8 sRGB.

OpenCV decodes all photos except CMYK JPEGs with a colour profile, which Pillow decodes.
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

from maskfold.photos.color_profiles import cmyk_to_srgb, to_srgb
from maskfold.photos.jpeg_header import JpegHeader
from maskfold.photos.png_chunks import PngHeader

if TYPE_CHECKING:
    from PIL import Image

DECODERS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_REDUCED_COLOR_2 & ~cv2.IMREAD_COLOR),
    4: cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_REDUCED_COLOR_4 & ~cv2.IMREAD_COLOR),
    8: cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_REDUCED_COLOR_8 & ~cv2.IMREAD_COLOR),
}


def decode_plain(content: bytes, reduced: int = 1) -> np.ndarray | None:
    """Decode to uint8 RGB [H, W, 3] with the EXIF orientation applied. Return None if the content is not an image.

    The colour profile is not applied, and transparency is dropped. reduced: 1, 2, 4 or 8, the factor by which the image
    is shrunk while it is decoded; decoding a JPEG then takes a half to a fifth of the time.
    """
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), DECODERS[reduced])
    except cv2.error:
        return None


def decode_jpeg(header: JpegHeader, reduced: int = 1) -> np.ndarray | None:
    """Decode a JPEG to uint8 sRGB [H, W, 3]. Return None if it cannot be decoded. reduced: see decode_plain."""
    profile = header.icc_profile
    if profile is not None and header.components == 4:
        image = _decode_cmyk(header, profile, reduced)
        if image is not None:
            return image
    image = decode_plain(header.content, reduced)
    if image is None or profile is None:
        return image
    return to_srgb(image, profile, is_grey=header.components == 1)


def decode_png(content: bytes, header: PngHeader) -> np.ndarray | None:
    """Decode a PNG to uint8 sRGB [H, W, 3], with transparent parts on white. Return None if it cannot be decoded."""
    if header.has_alpha:
        return _decode_transparent(content, header)
    image = decode_plain(content)
    if image is None or header.icc_profile is None:
        return image
    return to_srgb(image, header.icc_profile, is_grey=header.is_grey)


def _decode_transparent(content: bytes, header: PngHeader) -> np.ndarray | None:
    """Decode a PNG with transparent parts. They are shown on white, as in most viewers and on web pages."""
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None:
        return None
    if pixels.ndim == 2:
        # OpenCV ignores the transparent value of a grey picture, and scales pixels of 1 to 4 bits to 8 bits.
        scale = 255 // (2**header.bit_depth - 1) if header.bit_depth < 8 else 1
        transparent = -1 if header.transparent_grey is None else header.transparent_grey * scale
        alpha = (pixels != transparent) * np.uint8(255)
        color = cv2.cvtColor(_upper_8_bits(pixels), cv2.COLOR_GRAY2RGB)
    else:
        pixels = _upper_8_bits(pixels)
        # There is no fourth channel if the chunk of the transparent colour is broken.
        alpha = cv2.extractChannel(pixels, 3) if pixels.shape[2] == 4 else np.full(pixels.shape[:2], 255, np.uint8)
        color = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    if header.icc_profile is not None:
        color = to_srgb(color, header.icc_profile, header.is_grey)
    # color * opacity + white * (1 - opacity), computed in place because large pictures take much memory.
    opacity = cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB)
    cv2.multiply(color, opacity, color, 1 / 255)
    cv2.bitwise_not(opacity, opacity)
    cv2.add(color, opacity, color)
    return _upright(color, lambda: _exif_of(header))


def _upper_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Return the upper 8 bits of uint16 pixels as uint8; the uint16 array is overwritten. Return uint8 unchanged."""
    return pixels if pixels.dtype == np.uint8 else np.right_shift(pixels, 8, out=pixels).astype(np.uint8)


def _decode_cmyk(header: JpegHeader, profile: bytes, reduced: int) -> np.ndarray | None:
    """Decode a JPEG in CMYK or YCCK with its colour profile. Return None if Pillow cannot decode or convert it."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(header.content), formats=["JPEG", "MPO"]) as picture:
            if reduced > 1:
                # Pillow decodes to the smallest supported size that is not below `size`; OpenCV chooses the same size.
                # The quotients are not rounded, because a side of less than 8 pixels would become 0.
                size = picture.width / reduced, picture.height / reduced
                picture.draft(None, size)  # type: ignore[arg-type]
            image = cmyk_to_srgb(picture, profile)
            return None if image is None else _upright(image, picture.getexif)
    except MemoryError:
        raise
    except Exception:
        # Pillow's decoders raise errors of many types for broken files.
        return None


def _exif_of(header: PngHeader) -> "Image.Exif":
    from PIL import Image

    exif = Image.Exif()
    exif.load(header.exif)
    return exif


def _upright(image: np.ndarray, read_exif: Callable[[], "Image.Exif"]) -> np.ndarray:
    """Apply the EXIF orientation, 1 to 8, if it can be read."""
    try:
        orientation = read_exif().get(0x0112)
    except Exception:
        # Pillow raises errors of many types for broken EXIF data.
        return image
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
