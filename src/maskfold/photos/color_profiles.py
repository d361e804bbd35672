"""Convert pixels with an embedded ICC profile, such as Display P3, to sRGB (littlecms through Pillow)."""

import io
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image, ImageCms

# A profile that changes no colour by more than this many levels is treated as sRGB: the pixels are not converted.
MAX_SRGB_DIFFERENCE = 2
# An RGB profile is tested on a grid of colours with this many values per channel.
GRID = 9


def to_srgb(image: np.ndarray, profile: bytes, is_grey: bool = False) -> np.ndarray:
    """Convert uint8 RGB [H, W, 3] to sRGB; a profile that is broken or does not fit the pixels is ignored.

    is_grey: whether the photo is grey; its three channels are then equal.
    """
    transform = _transform(profile, "L" if is_grey else "RGB")
    return image if transform is None else _apply(transform, image, is_grey)


def _apply(transform: "ImageCms.ImageCmsTransform", image: np.ndarray, is_grey: bool) -> np.ndarray:
    from PIL import Image

    # np.array makes a copy, because an array that shares Pillow's memory is read-only.
    return np.array(transform.apply(Image.fromarray(image[..., 0] if is_grey else image)))


def cmyk_to_srgb(picture: "Image.Image", profile: bytes) -> np.ndarray | None:
    """Convert a CMYK picture to uint8 sRGB [H, W, 3]; None if the profile is broken or not for CMYK."""
    transform = _transform(profile, "CMYK") if picture.mode == "CMYK" else None
    return None if transform is None else np.array(transform.apply(picture))


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> "ImageCms.ImageCmsTransform | None":
    """Return the conversion to sRGB; None if it is not needed or not possible. mode: the Pillow mode of the pixels."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != {"L": "GRAY"}.get(mode, mode):
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "CMYK":
        return transform
    levels = np.linspace(0, 255, GRID).round().astype(np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    if mode == "L":
        colors = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    difference = np.abs(_apply(transform, np.ascontiguousarray(colors), mode == "L").astype(int) - colors).max()
    return transform if difference > MAX_SRGB_DIFFERENCE else None
