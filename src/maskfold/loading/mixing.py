"""Mixing of training photos with their partners, on the device; a target's share is what of the photo is there."""

import numpy as np
import torch

from maskfold.config.experiment import Mix
from maskfold.loading.sampler import MIX_STREAM
from maskfold.models.targets import Targets


class Mixer:
    """Photos followed by their partners -> mixed photos and targets; photos without partners stay as they are.

    What is drawn follows from (seed, epoch, batch, place in the whole batch): each of `world` processes mixes its share
    as one process would mix all.
    """

    def __init__(self, mix: Mix, seed: int, rank: int = 0, world: int = 1):
        self.mix, self.seed, self.rank, self.world = mix, seed, rank, world

    def __call__(
        self, images: torch.Tensor, targets: Targets, epoch: int, batch: int, size: int
    ) -> tuple[torch.Tensor, Targets]:
        """images [B or 2B, 3, H, W] from 0 to 255; size: photos of the whole batch over all processes."""
        places = np.arange(size)[self.rank :: self.world]
        # A process without a photo of its own holds one that does not count.
        places = places if len(places) else np.array([0])
        if len(images) == len(places):
            return images, targets
        rng = np.random.default_rng((self.seed, epoch, batch, MIX_STREAM))
        (own, others), (target, other) = images.chunk(2), targets.chunk(2)
        if self.mix.name == "mixup":
            # Zhang et al. 2018, mixup, eq. 1.
            kept = rng.beta(self.mix.alpha, self.mix.alpha, size)[places]
            share = torch.as_tensor(1 - kept, dtype=torch.float32, device=own.device)
            mixed = torch.lerp(own.float(), others.float(), share.view(-1, 1, 1, 1))
        else:
            boxes = torch.as_tensor(self._boxes(rng, size, own.shape[2:])[places], device=own.device)
            pasted = _inside(boxes, own.shape[2:])
            mixed = torch.where(pasted[:, None], others, own)
            share = pasted.float().mean((1, 2))
        return mixed, Targets(*(torch.lerp(a, b, share[:, None]) for a, b in zip(target, other, strict=True)))

    def _boxes(self, rng: np.random.Generator, size: int, shape: tuple[int, int]) -> np.ndarray:
        """int [size, 4]: top, left, bottom and right (exclusive) of what is pasted."""
        height, width = shape
        if self.mix.name == "half_cutmix":
            across = {"left_right": 1.0, "upper_lower": 0.0, "both": 0.5}[self.mix.halves]
            sideways, first = rng.random(size) < across, rng.random(size) < 0.5
            # The middle is where the first half ends and the second begins.
            top = np.where(~sideways & ~first, height // 2, 0)
            left = np.where(sideways & ~first, width // 2, 0)
            bottom = np.where(~sideways & first, height // 2, height)
            right = np.where(sideways & first, width // 2, width)
            return np.stack([top, left, bottom, right], 1)
        # Yun et al. 2019, CutMix, eq. 2: a box of the photo's shape anywhere, cut off at the borders.
        side = np.sqrt(1 - rng.beta(self.mix.alpha, self.mix.alpha, size))
        middle = np.stack([rng.random(size) * height, rng.random(size) * width], 1)
        half = np.stack([side * height, side * width], 1) / 2
        least, most = np.rint(middle - half), np.rint(middle + half)
        return np.concatenate([least, most], 1).clip(0, [height, width, height, width]).astype(np.int64)


def _inside(boxes: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """[B, 4] -> bool [B, H, W]."""
    top, left, bottom, right = (edge.view(-1, 1, 1) for edge in boxes.unbind(1))
    y = torch.arange(shape[0], device=boxes.device).view(1, -1, 1)
    x = torch.arange(shape[1], device=boxes.device).view(1, 1, -1)
    return (top <= y) & (y < bottom) & (left <= x) & (x < right)
