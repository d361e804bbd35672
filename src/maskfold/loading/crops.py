"""Crop photos and resize them to the stored size: the first of two preprocessing steps.

store.py saves the results. The second step, from the stored size to the input size, is in transforms.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from maskfold.config.experiment import Data

# Ratio of a stored photo's sides to the input's sides. With this ratio, resizing a random crop of 80 % of the stored
# area to the input size does not enlarge it.
STORE_MARGIN = 1.25
# Up to this shrink factor, bilinear interpolation skips hardly any pixels. Above it, INTER_AREA is used, which takes 5
# times as long.
MAX_BILINEAR_SHRINK = 1.5
# Factors by which a JPEG can be shrunk while it is decoded.
REDUCTIONS = (8, 4, 2)

# A face: left, top, width, height, in pixels.
Box = tuple[float, float, float, float]
# A crop window: top, left, height, width, in pixels.
Window = tuple[int, int, int, int]
# Height, width.
PhotoSize = tuple[int, int]

# Loader workers and the store's threads already use all cores; OpenCV's own threads would compete with them.
cv2.setNumThreads(1)


def _full_window(size: PhotoSize, data: Data, reduced: int, face: Box | None) -> Window:
    return 0, 0, size[0], size[1]


def _center_window(size: PhotoSize, data: Data, reduced: int, face: Box | None) -> Window:
    height, width = (min(side, round(crop / reduced)) for side, crop in zip(size, data.crop_size, strict=True))
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width


def _face_window(size: PhotoSize, data: Data, reduced: int, face: Box | None) -> Window:
    """Return the window that has the input's aspect ratio and is centred on the face.

    Its margins above and below the face are face_margin times the face's height. A window that is larger than the photo
    is shrunk, and a window that crosses the photo's border is moved inside. Without a face, return the centre crop.
    """
    if face is None:
        return _center_window(size, data, reduced, None)
    left, top, face_width, face_height = face
    window_height = face_height * (1 + 2 * data.face_margin)
    aspect = data.image_size[1] / data.image_size[0]
    window_height = min(window_height, size[0], size[1] / aspect)
    height, width = max(1, round(window_height)), max(1, min(size[1], round(window_height * aspect)))
    center_y, center_x = top + face_height / 2, left + face_width / 2
    y = min(max(0, round(center_y - height / 2)), size[0] - height)
    x = min(max(0, round(center_x - width / 2)), size[1] - width)
    return y, x, height, width


class Crop(NamedTuple):
    """A kind of crop.

    window: function (size of the decoded photo, data, factor by which decoding has shrunk the photo, face or None) ->
    crop window. keys: the keys of data on which the window depends; if one of them changes, the store is built again.
    has_crop_size: whether the window is at most data.crop_size, so that a larger stored photo would add no detail.
    needs_face: whether a face must first be detected in the whole photo.
    """

    window: Callable[[PhotoSize, Data, int, Box | None], Window]
    keys: tuple[str, ...] = ()
    has_crop_size: bool = False
    needs_face: bool = False


# Values of data.crop.
CROPS = {
    "none": Crop(_full_window),
    "center": Crop(_center_window, ("crop_size",), has_crop_size=True),
    "face": Crop(_face_window, ("crop_size", "face_margin", "image_size"), needs_face=True),
}


def store_size(data: Data) -> PhotoSize:
    """Return (height, width) of stored photos: STORE_MARGIN times the input size.

    With a centre crop, a side is at most that of data.crop_size, or that of the input if the input is larger.
    """
    sizes = [round(side * STORE_MARGIN) for side in data.image_size]
    if CROPS[data.crop].has_crop_size:
        sizes = [
            max(side, min(size, crop)) for size, side, crop in zip(sizes, data.image_size, data.crop_size, strict=True)
        ]
    return sizes[0], sizes[1]


def reduction(size: PhotoSize, data: Data) -> int:
    """Return the factor, 1, 2, 4 or 8, by which decoding shrinks a photo of `size`.

    With data.decode reduced it is the largest factor that does not make the crop smaller than a stored photo, else 1.
    """
    # A face is searched for in the whole photo.
    if data.decode == "full" or CROPS[data.crop].needs_face:
        return 1
    # EXIF data may rotate the photo after decoding, so the factor must be valid for both orientations.
    max_reduction = min(_shrink_to_store(size, data), _shrink_to_store(size[::-1], data))
    return next((factor for factor in REDUCTIONS if max_reduction >= factor), 1)


def _shrink_to_store(size: PhotoSize, data: Data) -> float:
    """Return the smaller of two ratios of crop window to stored photo: that of the heights and that of the widths."""
    height, width = CROPS[data.crop].window(size, data, 1, None)[2:]
    return min(height / store_size(data)[0], width / store_size(data)[1])


def crop_and_resize(image: np.ndarray, data: Data, face: Box | None = None, reduced: int = 1) -> np.ndarray:
    """Crop and resize RGB uint8 [H, W, 3] to a stored photo, uint8 [*store_size(data), 3].

    face: the detected face; None if data.crop needs none or no face was found. reduced: factor by which decoding has
    shrunk the image.
    """
    top, left, height, width = CROPS[data.crop].window(image.shape[:2], data, reduced, face)
    return resize(image[top : top + height, left : left + width], store_size(data))


def resize(image: np.ndarray, size: PhotoSize) -> np.ndarray:
    """Resize RGB uint8 [H, W, 3] to uint8 [*size, 3]."""
    shrink = max(side / target for side, target in zip(image.shape[:2], size, strict=True))
    interpolation = cv2.INTER_AREA if shrink > MAX_BILINEAR_SHRINK else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=interpolation)
