"""Training augmentation, from RGB uint8 to RGB uint8: presets, or a list of albumentations transforms in the config."""

import os
from typing import Any

# Without this, albumentations looks for a newer version on PyPI when it is imported.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import cv2
import numpy as np

from maskfold.config.experiment import Data
from maskfold.errors import UserError, did_you_mean, one_line
from maskfold.loading.crops import store_size

# Error messages of albumentations are cut to this length.
MAX_CHARS = 300

Transforms = list[A.BasicTransform | A.BaseCompose]


def pipeline(data: Data) -> Transforms:
    """Return the transforms of data.augment. Raises UserError for a list that albumentations does not accept."""
    return _from_list(data) if isinstance(data.augment, list) else PRESETS[data.augment](data)


def compose(data: Data) -> A.Compose:
    """Return the transforms of data.augment, combined into one. Raises UserError as pipeline does."""
    return A.Compose(pipeline(data), strict=True)


def _random_crop(data: Data, min_area: float) -> A.RandomResizedCrop:
    """Return a transform that crops a random part of the stored photo and resizes it to the input size.

    min_area: the smallest share of the photo's area that the crop may have.

    Bilinear interpolation does not alias here, since stored photos are only a little larger than the input.
    """
    height, width = store_size(data)
    aspect = width / height
    return A.RandomResizedCrop(data.image_size, scale=(min_area, 1.0), ratio=(0.9 * aspect, aspect / 0.9))


def _light(data: Data) -> Transforms:
    return [
        _random_crop(data, 0.8),
        A.HorizontalFlip(p=0.5),
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
    ]


def _strong(data: Data) -> Transforms:
    side = min(data.image_size)
    hole = (side // 10, side // 4)
    affine = {"rotate": (-12, 12), "shear": (-4, 4), "translate_percent": (-0.04, 0.04)}
    return [
        _random_crop(data, 0.65),
        A.HorizontalFlip(p=0.5),
        A.Affine(**affine, border_mode=cv2.BORDER_REFLECT_101, p=0.6),
        A.RandomBrightnessContrast(brightness_limit=0.3, contrast_limit=0.3, p=0.7),
        A.HueSaturationValue(hue_shift_limit=6, sat_shift_limit=25, val_shift_limit=0, p=0.3),
        A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.GaussNoise(std_range=(0.02, 0.08))], p=0.3),
        A.CoarseDropout(num_holes_range=(1, 2), hole_height_range=hole, hole_width_range=hole, p=0.3),
    ]


def _randaugment(data: Data) -> Transforms:
    """Apply `randaugment_ops` random operations to each photo (Cubuk et al. 2020, RandAugment).

    The strength of an operation is random, up to `randaugment_magnitude` times its maximum (as in Mueller & Hutter
    2021, TrivialAugment). SomeOf keeps the order of the list: geometric operations come before photometric ones.
    """
    magnitude = data.randaugment_magnitude
    border = {"border_mode": cv2.BORDER_REFLECT_101, "p": 1.0}
    operations = [
        A.Affine(rotate=(-30 * magnitude, 30 * magnitude), **border),
        A.Affine(shear=(-17 * magnitude, 17 * magnitude), **border),
        A.Affine(translate_percent=(-0.3 * magnitude, 0.3 * magnitude), **border),
        A.RandomBrightnessContrast(brightness_limit=0.9 * magnitude, contrast_limit=0, p=1.0),
        A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=0.9 * magnitude, p=1.0),
        A.ColorJitter(
            brightness=(1, 1), contrast=(1, 1), saturation=(1 - 0.9 * magnitude, 1 + 0.9 * magnitude), hue=(0, 0), p=1.0
        ),
        A.Posterize(num_bits=(round(8 - 5 * magnitude), 8), p=1.0),
        A.Sharpen(alpha=(0, 0.9 * magnitude), p=1.0),
        A.Equalize(p=1.0),
    ]
    return [_random_crop(data, 0.8), A.HorizontalFlip(p=0.5), A.SomeOf(operations, n=data.randaugment_ops)]


PRESETS = {"light": _light, "strong": _strong, "randaugment": _randaugment}


def _from_list(data: Data) -> Transforms:
    """Build the transforms of data.augment, a list of names and {name: arguments}, and test them on a blank photo."""
    if not data.augment:
        raise UserError("data.augment: the list is empty; write none for no augmentation")
    transforms = [_make_transform(entry, f"data.augment[{index}]") for index, entry in enumerate(data.augment)]
    photo = np.zeros((*store_size(data), 3), np.uint8)
    # Test each chain (see _chain) with p=1. Otherwise, a rarely applied transform might fail in the middle of training.
    for number in range(_num_chains(transforms)):
        image, chain = photo, _chain(transforms, number)
        for transform in chain:
            probability, transform.p = transform.p, 1.0
            try:
                image = transform(image=image)["image"]
            except Exception as error:
                name, size = type(transform).__name__, getattr(image, "shape", ())[:2]
                raise UserError(
                    f"data.augment: {name} fails on a photo of {size} ({one_line(error, MAX_CHARS)}); fix its arguments"
                ) from error
            finally:
                transform.p = probability
        check_augmented(image)
    return transforms


def _num_chains(transforms: Transforms) -> int:
    """Return how many chains (see _chain) are needed so that each transform is in at least one of them."""
    composed = [(each, _num_chains(each.transforms)) for each in transforms if isinstance(each, A.BaseCompose)]
    return max([1, *(count * (len(each.transforms) if _chooses(each) else 1) for each, count in composed)])


def _chain(transforms: Transforms, number: int) -> list[A.BasicTransform]:
    """One possible sequence of transforms; `number` selects one transform of each OneOf, SomeOf or OneOrOther."""
    chain = []
    for each in transforms:
        if not isinstance(each, A.BaseCompose):
            chain.append(each)
        elif _chooses(each):
            chain += _chain([each.transforms[number % len(each.transforms)]], number // len(each.transforms))
        else:
            chain += _chain(each.transforms, number)
    return chain


def _chooses(transform: A.BaseCompose) -> bool:
    """Whether a composition applies only some of its transforms."""
    return isinstance(transform, A.OneOf | A.SomeOf | A.OneOrOther)


def check_augmented(image: object) -> None:
    """Raise UserError if an augmentation returned something other than an RGB uint8 photo."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            "data.augment: the result is not an RGB uint8 photo; leave out Normalize, ToFloat and ToTensorV2, since "
            "the model's first layer normalises"
        )


def _make_transform(entry: Any, where: str) -> A.BasicTransform | A.BaseCompose:
    """Build the transform of one entry of the list; `where` is the entry's position, for messages.

    Raises UserError for an unknown name or an invalid argument.
    """
    name: Any = entry if isinstance(entry, str) else None
    arguments: Any = {} if isinstance(entry, str) else None
    if isinstance(entry, dict) and len(entry) == 1:
        [(name, arguments)] = entry.items()
        arguments = {} if arguments is None else arguments
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise UserError(f"{where}: {entry!r} is not valid; write a name or {{name: {{argument: value}}}}")
    names = [key for key, value in vars(A).items() if isinstance(value, type) and issubclass(value, _TRANSFORM_TYPES)]
    if name not in names:
        raise UserError(f"{where}: albumentations has no {name}{did_you_mean(name, names)}")
    transform_type = getattr(A, name)
    if issubclass(transform_type, A.BaseCompose):
        inner = arguments.get("transforms")
        if not isinstance(inner, list):
            raise UserError(f"{where}: {name} needs a list of transforms; write {{{name}: {{transforms: [...]}}}}")
        built = [_make_transform(each, f"{where}.{name}[{index}]") for index, each in enumerate(inner)]
        arguments = arguments | {"transforms": built}
    else:
        # With strict, albumentations raises an error for unknown arguments instead of printing a warning.
        arguments = arguments | {"strict": True}
    try:
        return transform_type(
            **{
                key: tuple(value) if key != "transforms" and isinstance(value, list) else value
                for key, value in arguments.items()
            }
        )
    except Exception as error:
        raise UserError(f"{where}: {name}: {one_line(error, MAX_CHARS)}") from error


_TRANSFORM_TYPES = (A.BasicTransform, A.BaseCompose)
