"""The first of two preprocessing steps: crop a photo and resize it to the stored size, once for all uses (store.py).

The second step, from the stored size to the input size, is in transforms.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from maskfold.config.experiment import Data

# Sides of the stored photo / sides of the input: a random crop of 80 % of the stored area is then not enlarged.
STORE_MARGIN = 1.25
# Bilinear sampling skips hardly any pixels up to this shrink factor. For larger ones INTER_AREA is used, which takes 5
# times as long.
MAX_BILINEAR_SHRINK = 1.5
# Factors by which a JPEG can be shrunk while it is decoded.
REDUCTIONS = (8, 4, 2)

# A face: left, top, width, height.
Box = tuple[float, float, float, float]
# A crop window: top, left, height, width.
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
    """A window of the input's aspect ratio around the face; its margin above and below is face_margin face heights.

    A window larger than the photo is shrunk, and one that crosses the photo's border is moved inside. Without a face
    the window is that of the centre crop.
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

    window: (size of the decoded photo, data, factor by which decoding has shrunk it, face or None) -> crop window.
    keys: the keys of data on which the window depends; another value needs another store. has_crop_size: whether the
    window is at most data.crop_size, so that stored photos need not be larger. needs_face: whether a face is detected
    first, in the whole photo.
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
    """Return (height, width) of stored photos: larger than the input, but at most data.crop_size for a centre crop."""
    sizes = [round(side * STORE_MARGIN) for side in data.image_size]
    if CROPS[data.crop].has_crop_size:
        sizes = [
            max(side, min(size, crop)) for size, side, crop in zip(sizes, data.image_size, data.crop_size, strict=True)
        ]
    return sizes[0], sizes[1]


def reduction(size: PhotoSize, data: Data) -> int:
    """Return the factor, 1, 2, 4 or 8, by which decoding may shrink a photo of `size`.

    The crop of the shrunk photo must not be smaller than a stored photo.
    """
    if CROPS[data.crop].needs_face:
        return 1
    # The smaller factor of both orientations is used, since EXIF data may rotate the photo after decoding.
    max_reduction = min(_shrink_to_store(size, data), _shrink_to_store(size[::-1], data))
    return next((factor for factor in REDUCTIONS if max_reduction >= factor), 1)


def _shrink_to_store(size: PhotoSize, data: Data) -> float:
    """Return the ratio of crop window to stored photo: the smaller of the ratios of height and of width."""
    height, width = CROPS[data.crop].window(size, data, 1, None)[2:]
    return min(height / store_size(data)[0], width / store_size(data)[1])


def crop_and_resize(image: np.ndarray, data: Data, face: Box | None = None, reduced: int = 1) -> np.ndarray:
    """Crop and resize RGB uint8 [H, W, 3] to a stored photo, uint8 [*store_size(data), 3].

    face: box for `crop: face`, None for the centre crop. reduced: factor by which decoding has shrunk the image.
    """
    top, left, height, width = CROPS[data.crop].window(image.shape[:2], data, reduced, face)
    return resize(image[top : top + height, left : left + width], store_size(data))


def resize(image: np.ndarray, size: PhotoSize) -> np.ndarray:
    """Resize RGB uint8 [H, W, 3] to uint8 [*size, 3]."""
    shrink = max(side / target for side, target in zip(image.shape[:2], size, strict=True))
    interpolation = cv2.INTER_AREA if shrink > MAX_BILINEAR_SHRINK else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=interpolation)
