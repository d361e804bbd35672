"""Read a photo as the store keeps it, for training, prediction and notebooks: decode, find a face, crop, resize."""

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

    pixels: RGB uint8 [*store_size(data), 3]. sha1: hash of the file's bytes. has_face: whether a face was detected.
    """

    pixels: np.ndarray
    sha1: str
    has_face: bool


def read_stored_photo(
    path: Path, data: Data, reduction_of: Callable[[PhotoSize], int] | None = None, check_damage: bool = False
) -> StoredPhoto:
    """Read a photo file, crop the photo and resize it. With data.decode reduced, decoding shrinks the photo.

    reduction_of: function (height, width) -> factor, from a caller that caches crops.reduction; None to call
    crops.reduction. check_damage: as in read_photo. Raises UserError as read_photo does.
    """
    photo = read_photo(path, reduction_of or (lambda size: reduction(size, data)), check_damage)
    pixels, has_face = stored_pixels(photo.image, data, photo.reduced)
    return StoredPhoto(pixels, photo.sha1, has_face)


def stored_pixels(image: np.ndarray, data: Data, reduced: int = 1) -> tuple[np.ndarray, bool]:
    """Crop and resize RGB uint8 [H, W, 3]. Return (pixels, has_face), as in StoredPhoto.

    reduced: factor by which decoding has shrunk the image.
    """
    face = face_for_crop(image, data)
    return crop_and_resize(image, data, face, reduced), face is not None
