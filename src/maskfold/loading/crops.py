"""The one crop of a photo and the size it is stored at: photo -> what every fold, run and view begins with."""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from maskfold.config.experiment import Data

# The store keeps a little more than the backbone sees: a random crop of .8 of its area is not enlarged.
STORE_MARGIN = 1.25
# Up to this factor bilinear sampling passes over hardly a pixel; beyond it areas are averaged, at 5x the cost.
MOST_BILINEAR = 1.5
REDUCTIONS = (8, 4, 2)

# Of a face: left, top, width, height. Of what is cut out: top, left, height, width.
Box = tuple[float, float, float, float]
Window = tuple[int, int, int, int]
Size = tuple[int, int]

# Loader workers and the store's threads are parallel already: threads of OpenCV's own would fight them for the cores.
cv2.setNumThreads(1)


def _whole(size: Size, data: Data, reduced: int, face: Box | None) -> Window:
    return 0, 0, size[0], size[1]


def _centre(size: Size, data: Data, reduced: int, face: Box | None) -> Window:
    height, width = (min(have, round(want / reduced)) for have, want in zip(size, data.crop_size, strict=True))
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width


def _around_face(size: Size, data: Data, reduced: int, face: Box | None) -> Window:
    """The window of the input's shape around a face, its margin above and below; moved, then shrunk, to lie inside.

    Without a face it is the centre.
    """
    if face is None:
        return _centre(size, data, reduced, None)
    left, top, face_width, face_height = face
    wanted = face_height * (1 + 2 * data.face_margin)
    aspect = data.image_size[1] / data.image_size[0]
    wanted = min(wanted, size[0], size[1] / aspect)
    height, width = max(1, round(wanted)), max(1, min(size[1], round(wanted * aspect)))
    middle_y, middle_x = top + face_height / 2, left + face_width / 2
    y = min(max(0, round(middle_y - height / 2)), size[0] - height)
    x = min(max(0, round(middle_x - width / 2)), size[1] - width)
    return y, x, height, width


class Crop(NamedTuple):
    """window: what is cut out of a photo of some size, `reduced` while decoding, with a face or None.

    has_crop_size: it is never larger than data.crop_size, so neither need the store be; needs_face: a face is looked
    for, in the whole photo.
    """

    window: Callable[[Size, Data, int, Box | None], Window]
    has_crop_size: bool = False
    needs_face: bool = False


# What data.crop names.
CROPS = {
    "none": Crop(_whole),
    "center": Crop(_centre, has_crop_size=True),
    "face": Crop(_around_face, needs_face=True),
}


def store_size(data: Data) -> Size:
    """Height and width of the stored photos: the input's with a margin, but no more than a centre crop holds."""
    sizes = [round(side * STORE_MARGIN) for side in data.image_size]
    if CROPS[data.crop].has_crop_size:
        sizes = [
            max(side, min(size, crop)) for size, side, crop in zip(sizes, data.image_size, data.crop_size, strict=True)
        ]
    return sizes[0], sizes[1]


def reduction(size: Size, data: Data) -> int:
    """1, 2, 4 or 8: how far a photo of `size` (height, width) may be shrunk while decoding and still fill the store."""
    if CROPS[data.crop].needs_face:
        return 1
    held = min(_least_ratio(size, data), _least_ratio(size[::-1], data))  # whichever way up its EXIF data turns it
    return next((factor for factor in REDUCTIONS if held >= factor), 1)


def _least_ratio(size: Size, data: Data) -> float:
    height, width = CROPS[data.crop].window(size, data, 1, None)[2:]
    return min(height / store_size(data)[0], width / store_size(data)[1])


def crop_and_resize(image: np.ndarray, data: Data, face: Box | None = None, reduced: int = 1) -> np.ndarray:
    """uint8 RGB photo of any size, perhaps `reduced` while decoding -> the stored one, [*store_size(data), 3].

    face: the box that `crop: face` is cut around; without one it is the centre crop.
    """
    top, left, height, width = CROPS[data.crop].window(image.shape[:2], data, reduced, face)
    return resize(image[top : top + height, left : left + width], store_size(data))


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """uint8 RGB -> [*size, 3]; the same image where it has that size."""
    shrinks = max(have / want for have, want in zip(image.shape[:2], size, strict=True))
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks > MOST_BILINEAR else cv2.INTER_LINEAR)
