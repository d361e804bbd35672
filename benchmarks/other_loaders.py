"""Data loaders of other pipelines for the same photos, each written as the users of the pipeline would write it."""

from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from timm.data import create_loader
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
BATCH = 64


class Photos(Dataset):
    """A dataset of read(path) for each path, with label 0."""

    def __init__(self, paths: list[Path], read):
        self.paths, self.read = list(map(str, paths)), read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        return self.read(self.paths[index]), 0


def loader(dataset: Dataset, workers: int) -> DataLoader:
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


class Noise:
    """Gaussian noise on a tensor."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.randn(image.shape)


def organisers(paths: list[Path], size: tuple[int, int], workers: int) -> DataLoader:
    """The organisers' baseline: PIL, centre crop, resize, colour jitter, normalise, noise."""
    steps = T.Compose(
        [
            T.CenterCrop((320, 256)),
            T.Resize(size, Image.BILINEAR),
            T.ColorJitter(0.1, 0.1, 0.1, 0.1),
            T.ToTensor(),
            T.Normalize(MEAN, STD),
            Noise(),
        ]
    )
    return loader(Photos(paths, lambda path: steps(Image.open(path).convert("RGB"))), workers)


class ForTimm(Dataset):
    """A dataset for timm's create_loader, which sets its transform."""

    def __init__(self, paths: list[Path]):
        self.paths, self.transform = list(map(str, paths)), None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        return self.transform(Image.open(self.paths[index]).convert("RGB")), 0


def timm(paths: list[Path], size: tuple[int, int], workers: int) -> DataLoader:
    """timm's create_loader with random resized crop, flip and colour jitter."""
    return create_loader(
        ForTimm(paths),
        (3, *size),
        BATCH,
        is_training=True,
        use_prefetcher=False,
        scale=(0.8, 1.0),
        ratio=(0.9, 1.1),
        hflip=0.5,
        color_jitter=0.2,
        interpolation="bilinear",
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def torchvision(paths: list[Path], size: tuple[int, int], workers: int) -> DataLoader:
    """torchvision's decoder and transforms v2 on uint8 tensors, with the augmentations of the preset light."""
    steps = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.8, 1.0), ratio=(0.9, 1.1), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.2, 0.2)], p=0.5),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return loader(Photos(paths, lambda path: steps(decode_image(path, ImageReadMode.RGB))), workers)


def light(size: tuple[int, int]) -> list[A.BasicTransform]:
    """The augmentations of the preset light."""
    aspect = size[1] / size[0]
    return [
        A.RandomResizedCrop(size, scale=(0.8, 1.0), ratio=(0.9 * aspect, aspect / 0.9)),
        A.HorizontalFlip(p=0.5),
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
    ]


def cv2_albumentations(paths: list[Path], size: tuple[int, int], workers: int) -> DataLoader:
    """As in many Kaggle notebooks: cv2.imread, the preset light, Normalize, ToTensorV2."""
    steps = A.Compose([*light(size), A.Normalize(MEAN, STD), ToTensorV2()])

    def read(path: str) -> torch.Tensor:
        return steps(image=cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB))["image"]

    return loader(Photos(paths, read), workers)


class Mapped(Dataset):
    """A lower bound: a uint8 memory map and the preset light, without decoding, Normalize and seeds."""

    def __init__(self, file: Path, size: tuple[int, int]):
        self.photos, self.steps = np.load(file, mmap_mode="r"), A.Compose(light(size))

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int):
        return torch.from_numpy(np.ascontiguousarray(self.steps(image=self.photos[index])["image"])), 0


def memory_map(file: Path, size: tuple[int, int], workers: int) -> DataLoader:
    return loader(Mapped(file, size), workers)
