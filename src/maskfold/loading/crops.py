"""The one crop of a photo and the size it is stored at: photo -> what every fold, run and view begins with."""

import cv2
import numpy as np

from maskfold.config.experiment import Data

# The store keeps a little more than the backbone sees: a random crop of .8 of its area is not enlarged.
STORE_MARGIN = 1.25
# Up to this factor bilinear sampling passes over hardly a pixel; beyond it areas are averaged, at 5x the cost.
MOST_BILINEAR = 1.5
REDUCTIONS = (8, 4, 2)

Box = tuple[float, float, float, float]

# Loader workers and the store's threads are parallel already: threads of OpenCV's own would fight them for the cores.
cv2.setNumThreads(1)


def store_size(data: Data) -> tuple[int, int]:
    """Height and width of the stored photos: the input's with a margin, but no more than a centre crop holds."""
    sizes = [round(side * STORE_MARGIN) for side in data.image_size]
    if data.crop == "center":
        sizes = [
            max(side, min(size, crop)) for size, side, crop in zip(sizes, data.image_size, data.crop_size, strict=True)
        ]
    return sizes[0], sizes[1]


def reduction(size: tuple[int, int], data: Data) -> int:
    """1, 2, 4 or 8: how far a photo of `size` (height, width) may be shrunk while decoding and still fill the store."""
    if data.crop == "face":
        return 1
    held = min(_least_ratio(size, data), _least_ratio(size[::-1], data))  # whichever way up its EXIF data turns it
    return next((factor for factor in REDUCTIONS if held >= factor), 1)


def _least_ratio(size: tuple[int, int], data: Data) -> float:
    height, width = _centre(size, data)[2:]
    return min(height / store_size(data)[0], width / store_size(data)[1])


def crop_and_resize(image: np.ndarray, data: Data, face: Box | None = None, reduced: int = 1) -> np.ndarray:
    """uint8 RGB photo of any size, perhaps `reduced` while decoding -> the stored one, [*store_size(data), 3].

    face: the box (left, top, width, height) that `crop: face` is cut around; without one it is the centre crop.
    """
    size = image.shape[:2]
    top, left, height, width = _around(face, size, data) if face is not None else _centre(size, data, reduced)
    return resize(image[top : top + height, left : left + width], store_size(data))


def _centre(size: tuple[int, int], data: Data, reduced: int = 1) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the middle, or of everything."""
    if data.crop == "none":
        return 0, 0, size[0], size[1]
    height, width = (min(have, round(want / reduced)) for have, want in zip(size, data.crop_size, strict=True))
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width


def _around(face: Box, size: tuple[int, int], data: Data) -> tuple[int, int, int, int]:
    """The window of the input's shape around a face, its margin above and below; moved, then shrunk, to lie inside."""
    left, top, face_width, face_height = face
    wanted = face_height * (1 + 2 * data.face_margin)
    aspect = data.image_size[1] / data.image_size[0]
    wanted = min(wanted, size[0], size[1] / aspect)
    height, width = max(1, round(wanted)), max(1, min(size[1], round(wanted * aspect)))
    middle_y, middle_x = top + face_height / 2, left + face_width / 2
    y = min(max(0, round(middle_y - height / 2)), size[0] - height)
    x = min(max(0, round(middle_x - width / 2)), size[1] - width)
    return y, x, height, width


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 RGB -> [*size, 3]; the same image where it has that size."""
    shrinks = max(have / want for have, want in zip(image.shape[:2], size, strict=True))
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks > MOST_BILINEAR else cv2.INTER_LINEAR)
