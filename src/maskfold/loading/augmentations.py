"""Augmentation presets, and pipelines written in the configuration: lists of albumentations, uint8 RGB in and out."""

import os
from typing import Any

# albumentations asks the package index for a newer version at import, unless it is told not to.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import cv2
import numpy as np

from maskfold.config.experiment import Data
from maskfold.errors import UserError, nearest, one_line
from maskfold.loading.crops import store_size

# Of what albumentations says of an argument.
MAX_LETTERS = 300

Transforms = list[A.BasicTransform | A.BaseCompose]


def pipeline(data: Data) -> Transforms:
    """What data.augment names. Raises UserError for a list of transforms that albumentations does not take."""
    return _written(data) if isinstance(data.augment, list) else PRESETS[data.augment](data)


def _crop(data: Data, least: float) -> A.RandomResizedCrop:
    """A crop of at least that share of the stored photo, resized to the input.

    The store is so little larger than the input that bilinear sampling does not alias.
    """
    height, width = store_size(data)
    aspect = width / height
    return A.RandomResizedCrop(data.image_size, scale=(least, 1.0), ratio=(0.9 * aspect, aspect / 0.9))


def _light(data: Data) -> Transforms:
    return [
        _crop(data, 0.8),
        A.HorizontalFlip(p=0.5),
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
    ]


def _strong(data: Data) -> Transforms:
    side = min(data.image_size)
    hole = (side // 10, side // 4)
    moved = {"rotate": (-12, 12), "shear": (-4, 4), "translate_percent": (-0.04, 0.04)}
    return [
        _crop(data, 0.65),
        A.HorizontalFlip(p=0.5),
        A.Affine(**moved, border_mode=cv2.BORDER_REFLECT_101, p=0.6),
        A.RandomBrightnessContrast(brightness_limit=0.3, contrast_limit=0.3, p=0.7),
        A.HueSaturationValue(hue_shift_limit=6, sat_shift_limit=25, val_shift_limit=0, p=0.3),
        A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.GaussNoise(std_range=(0.02, 0.08))], p=0.3),
        A.CoarseDropout(num_holes_range=(1, 2), hole_height_range=hole, hole_width_range=hole, p=0.3),
    ]


def _randaugment(data: Data) -> Transforms:
    """`randaugment_ops` operations a photo, each of a strength up to `randaugment_magnitude` of its most.

    Cubuk et al. 2020, RandAugment; with random strengths as Mueller & Hutter 2021, TrivialAugment, has them. SomeOf
    keeps the list's order: geometry stays before photometry.
    """
    most = data.randaugment_magnitude
    border = {"border_mode": cv2.BORDER_REFLECT_101, "p": 1.0}
    operations = [
        A.Affine(rotate=(-30 * most, 30 * most), **border),
        A.Affine(shear=(-17 * most, 17 * most), **border),
        A.Affine(translate_percent=(-0.3 * most, 0.3 * most), **border),
        A.RandomBrightnessContrast(brightness_limit=0.9 * most, contrast_limit=0, p=1.0),
        A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=0.9 * most, p=1.0),
        A.ColorJitter(
            brightness=(1, 1), contrast=(1, 1), saturation=(1 - 0.9 * most, 1 + 0.9 * most), hue=(0, 0), p=1.0
        ),
        A.Posterize(num_bits=(round(8 - 5 * most), 8), p=1.0),
        A.Sharpen(alpha=(0, 0.9 * most), p=1.0),
        A.Equalize(p=1.0),
    ]
    return [_crop(data, 0.8), A.HorizontalFlip(p=0.5), A.SomeOf(operations, n=data.randaugment_ops)]


PRESETS = {"light": _light, "strong": _strong, "randaugment": _randaugment}


def _written(data: Data) -> Transforms:
    """The configuration's own list, each entry a name or {name: arguments}; tried out on a stored photo."""
    if not data.augment:
        raise UserError("data.augment: the list is empty; write none for no augmentation")
    transforms = [_transform(entry, f"data.augment[{at}]") for at, entry in enumerate(data.augment)]
    photo = np.zeros((*store_size(data), 3), np.uint8)
    # For certain, one way through after the other: a chance would let a fault pass now and meet it in mid-training.
    for way in range(_ways(transforms)):
        seen, chain = photo, _chain(transforms, way)
        for transform in chain:
            chance, transform.p = transform.p, 1.0
            try:
                seen = transform(image=seen)["image"]
            except Exception as fault:
                name, size = type(transform).__name__, getattr(seen, "shape", ())[:2]
                raise UserError(
                    f"data.augment: {name} fails on a photo of {size} ({one_line(fault, MAX_LETTERS)})"
                ) from fault
            finally:
                transform.p = chance
        check_photo(seen)
    return transforms


def _ways(transforms: Transforms) -> int:
    """How many ways through the pipeline take every transform in it at least once."""
    inner = [(each, _ways(each.transforms)) for each in transforms if isinstance(each, A.BaseCompose)]
    return max([1, *(ways * (len(each.transforms) if _chooses(each) else 1) for each, ways in inner)])


def _chain(transforms: Transforms, way: int) -> list[A.BasicTransform]:
    """The transforms that one way meets, in order: of those that are chosen from, one."""
    chain = []
    for each in transforms:
        if not isinstance(each, A.BaseCompose):
            chain.append(each)
        elif _chooses(each):
            chain += _chain([each.transforms[way % len(each.transforms)]], way // len(each.transforms))
        else:
            chain += _chain(each.transforms, way)
    return chain


def _chooses(transform: A.BaseCompose) -> bool:
    return isinstance(transform, A.OneOf | A.SomeOf | A.OneOrOther)


def check_photo(seen: object) -> None:
    """Raises UserError where an augmentation leaves anything but a uint8 RGB photo."""
    if not isinstance(seen, np.ndarray) or seen.dtype != np.uint8 or seen.ndim != 3 or seen.shape[2] != 3:
        raise UserError(
            "data.augment: what comes out is no uint8 RGB photo; leave Normalize, ToFloat and ToTensorV2 out: the "
            "model's first layer normalises"
        )


def _transform(entry: Any, where: str) -> A.BasicTransform | A.BaseCompose:
    """One entry as albumentations' object. Raises UserError naming its place, for a wrong name or argument."""
    name: Any = entry if isinstance(entry, str) else None
    arguments: Any = {} if isinstance(entry, str) else None
    if isinstance(entry, dict) and len(entry) == 1:
        [(name, arguments)] = entry.items()
        arguments = {} if arguments is None else arguments
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise UserError(f"{where}: a name or {{name: {{argument: value}}}} is expected, not {entry!r}")
    known = [key for key, kind in vars(A).items() if isinstance(kind, type) and issubclass(kind, _KINDS)]
    if name not in known:
        raise UserError(f"{where}: albumentations has no {name}{nearest(name, known)}")
    kind = getattr(A, name)
    if issubclass(kind, A.BaseCompose):
        inner = arguments.get("transforms")
        if not isinstance(inner, list):
            raise UserError(f"{where}: {name} needs a list of transforms")
        made = [_transform(each, f"{where}.{name}[{at}]") for at, each in enumerate(inner)]
        arguments = arguments | {"transforms": made}
    else:
        # Unread arguments are an error then, rather than a warning.
        arguments = arguments | {"strict": True}
    try:
        return kind(
            **{
                key: tuple(value) if key != "transforms" and isinstance(value, list) else value
                for key, value in arguments.items()
            }
        )
    except Exception as fault:
        raise UserError(f"{where}: {name}: {one_line(fault, MAX_LETTERS)}") from fault


_KINDS = (A.BasicTransform, A.BaseCompose)
