"""The one crop, and the albumentations for training and for everything else; uint8 RGB in, uint8 RGB out.

Normalisation is the model's first layer, so a photo meets it once, on the device.
"""

import os
import random

# albumentations asks the package index for a newer version at import, unless it is told not to.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import cv2
import numpy as np

from maskfold.config import Data

# The store keeps a little more than the backbone sees: a random crop of .8 of its area is not enlarged.
STORE_MARGIN = 1.25


def store_size(data: Data) -> tuple[int, int]:
    """Height and width of the stored photos: the input's with a margin, but no more than a centre crop holds."""
    sizes = [round(side * STORE_MARGIN) for side in data.image_size]
    if data.crop == "center":
        sizes = [
            max(side, min(size, crop)) for size, side, crop in zip(sizes, data.image_size, data.crop_size, strict=True)
        ]
    return sizes[0], sizes[1]


def crop_and_resize(image: np.ndarray, data: Data) -> np.ndarray:
    """uint8 RGB photo of any size -> the stored one, [*store_size(data), 3]."""
    if data.crop == "center":
        height, width = (min(have, want) for have, want in zip(image.shape[:2], data.crop_size, strict=True))
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        image = image[top : top + height, left : left + width]
    return _resize(image, store_size(data))


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    # Area averaging does not alias when shrinking; for enlarging it would be blocky.
    smaller = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def eval_transform(data: Data):
    """The view of validation, out-of-fold prediction and eval alike: image -> uint8 [*image_size, 3]."""

    def transform(image: np.ndarray, seed: tuple[int, ...] = ()) -> np.ndarray:
        return _resize(image, data.image_size)

    return transform


class TrainTransform:
    """image, seed -> augmented uint8 [*image_size, 3]; the same seed gives the same augmentation in any process."""

    def __init__(self, data: Data):
        self.compose = A.Compose(_preset(data), strict=True)
        # All transforms draw from these two, reseeded in place: set_random_seed builds a pair for each, every sample.
        self.numpy, self.python = np.random.default_rng(), random.Random()
        self.compose.set_random_state(self.numpy, self.python)

    def __call__(self, image: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
        state = np.random.PCG64(np.random.SeedSequence(seed))
        self.numpy.bit_generator.state = state.state
        self.python.seed(int(state.random_raw()))
        return self.compose(image=image)["image"]


def train_transform(data: Data):
    return eval_transform(data) if data.augment == "none" else TrainTransform(data)


def _preset(data: Data) -> list[A.BasicTransform]:
    """Geometry first, then the resize to the input, then photometry on the smaller image."""
    stored = store_size(data)
    aspect = stored[1] / stored[0]
    ratio = (0.9 * aspect, aspect / 0.9)
    light = [
        A.RandomResizedCrop(data.image_size, scale=(0.8, 1.0), ratio=ratio, area_for_downscale="image"),
        A.HorizontalFlip(p=0.5),
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
    ]
    if data.augment == "light":
        return light
    side = min(data.image_size)
    return [
        A.Affine(
            rotate=(-12, 12), shear=(-4, 4), translate_percent=(-0.04, 0.04), border_mode=cv2.BORDER_REFLECT_101, p=0.6
        ),
        A.RandomResizedCrop(data.image_size, scale=(0.65, 1.0), ratio=ratio, area_for_downscale="image"),
        A.HorizontalFlip(p=0.5),
        A.RandomBrightnessContrast(brightness_limit=0.3, contrast_limit=0.3, p=0.7),
        A.HueSaturationValue(hue_shift_limit=6, sat_shift_limit=25, val_shift_limit=0, p=0.3),
        A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.GaussNoise(std_range=(0.02, 0.08))], p=0.3),
        A.CoarseDropout(
            num_holes_range=(1, 2),
            hole_height_range=(side // 10, side // 4),
            hole_width_range=(side // 10, side // 4),
            p=0.3,
        ),
    ]
