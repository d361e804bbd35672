"""Read a photo at its stored size, for training, prediction and notebooks: decode, find a face, crop, resize."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskfold.config.experiment import Data
from maskfold.data.decode import read_photo
from maskfold.loading.crops import PhotoSize, crop_and_resize, reduction
from maskfold.loading.faces import face_for_crop


class StoredPhoto(NamedTuple):
    """A cropped and resized photo.

    pixels: RGB uint8 [*store_size(data), 3]. sha1: hash of the file's bytes. has_face: whether the crop found a face.
    """

    pixels: np.ndarray
    sha1: str
    has_face: bool


def read_stored_photo(
    path: Path, data: Data, reduction_of: Callable[[PhotoSize], int] | None = None, check_damage: bool = False
) -> StoredPhoto:
    """Read a photo file; it is shrunk while it is decoded as far as its crop allows.

    reduction_of: function of the size that returns crops.reduction, for a caller that caches it. check_damage: as in
    read_photo. Raises UserError as read_photo does.
    """
    photo = read_photo(path, reduction_of or (lambda size: reduction(size, data)), check_damage)
    pixels, has_face = stored_pixels(photo.image, data, photo.reduced)
    return StoredPhoto(pixels, photo.sha1, has_face)


def stored_pixels(image: np.ndarray, data: Data, reduced: int = 1) -> tuple[np.ndarray, bool]:
    """Return (the stored photo, whether a face was found) of RGB uint8 [H, W, 3].

    reduced: factor by which decoding has shrunk the image.
    """
    face = face_for_crop(image, data)
    return crop_and_resize(image, data, face, reduced), face is not None
