"""Decode JPEG and PNG to the pixels that a viewer shows, as uint8 sRGB.

OpenCV decodes the ordinary kinds. Pillow decodes the others: transparency, and CMYK with a colour profile.
"""

import io

import cv2
import numpy as np

from maskfold.photos.color_profiles import cmyk_to_srgb, to_srgb
from maskfold.photos.jpeg_header import JpegHeader
from maskfold.photos.png_chunks import PngHeader

DECODERS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_REDUCED_COLOR_2 & ~cv2.IMREAD_COLOR),
    4: cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_REDUCED_COLOR_4 & ~cv2.IMREAD_COLOR),
    8: cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_REDUCED_COLOR_8 & ~cv2.IMREAD_COLOR),
}
# Transparent parts of a PNG are shown on white, as in most viewers and on web pages.
BACKGROUND = (255, 255, 255, 255)


def decode_plain(content: bytes, reduced: int = 1) -> np.ndarray | None:
    """Decode to uint8 RGB [H, W, 3] with the EXIF orientation applied. Return None if the content is not an image.

    The colour profile is not applied, and transparency is dropped. reduced: 1, 2, 4 or 8, the factor by which the image
    is shrunk while it is decoded; for a JPEG this takes a half to a fifth of the time.
    """
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), DECODERS[reduced])
    except cv2.error:
        return None


def decode_jpeg(header: JpegHeader, reduced: int = 1) -> np.ndarray | None:
    """Decode a JPEG to uint8 sRGB [H, W, 3]. Return None if it cannot be decoded."""
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
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as file:
            transparent = file.info.get("transparency")
            picture: Image.Image = ImageOps.exif_transpose(file)
            if picture.mode.startswith("I"):
                # 16-bit grey with one transparent value is converted here, since Pillow would clip values above 255.
                grey = np.asarray(picture).astype(np.uint16)
                alpha = np.where(grey == transparent, 0, 255).astype(np.uint8)
                rgba = np.dstack([*[(grey >> 8).astype(np.uint8)] * 3, alpha])
            else:
                rgba = np.asarray(picture.convert("RGBA"))
            color = np.ascontiguousarray(rgba[..., :3])
            if header.icc_profile is not None:
                color = to_srgb(color, header.icc_profile, header.is_grey)
            layer = Image.fromarray(np.dstack([color, rgba[..., 3]]))
            return np.array(Image.alpha_composite(Image.new("RGBA", layer.size, BACKGROUND), layer))[..., :3].copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _decode_cmyk(header: JpegHeader, profile: bytes, reduced: int) -> np.ndarray | None:
    """Decode a JPEG in CMYK or YCCK with its colour profile. Return None if Pillow cannot decode or convert it."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(header.content), formats=["JPEG", "MPO"]) as picture:
            if reduced > 1:
                # Pillow decodes to the smallest supported size that is not below this one, which is OpenCV's size too.
                picture.draft(None, (picture.width // reduced, picture.height // reduced))
            return cmyk_to_srgb(ImageOps.exif_transpose(picture), profile)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
