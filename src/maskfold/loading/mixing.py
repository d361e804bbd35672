"""Mixing of training photos with their partners, on the device; a target's share is what of the photo is there."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from maskfold.config.experiment import Mix
from maskfold.loading.sampler import MIX_STREAM
from maskfold.models.targets import Targets

# Chance that half_cutmix pastes a left or right half rather than an upper or lower one.
SIDEWAYS = {"left_right": 1.0, "upper_lower": 0.0, "both": 0.5}


@dataclass(frozen=True)
class Pairs:
    """Photos and their partners, [B, 3, H, W] each from 0 to 255; places: int [B], theirs among the batch's `size`.

    What is chosen at random is chosen for the whole batch, so that it does not depend on the number of processes.
    """

    own: torch.Tensor
    others: torch.Tensor
    places: np.ndarray
    size: int


Mixed = tuple[torch.Tensor, torch.Tensor]


def mixup(pairs: Pairs, mix: Mix, rng: np.random.Generator) -> Mixed:
    """(mixed photos, shares of the partners [B]) (Zhang et al. 2018, mixup, eq. 1)."""
    kept = rng.beta(mix.alpha, mix.alpha, pairs.size)[pairs.places]
    share = torch.as_tensor(1 - kept, dtype=torch.float32, device=pairs.own.device)
    return torch.lerp(pairs.own.float(), pairs.others.float(), share.view(-1, 1, 1, 1)), share


def cutmix(pairs: Pairs, mix: Mix, rng: np.random.Generator) -> Mixed:
    """A box of the photo's shape anywhere, cut off at the borders (Yun et al. 2019, CutMix, eq. 2)."""
    (height, width), size = pairs.own.shape[2:], pairs.size
    side = np.sqrt(1 - rng.beta(mix.alpha, mix.alpha, size))
    middle = np.stack([rng.random(size) * height, rng.random(size) * width], 1)
    half = np.stack([side * height, side * width], 1) / 2
    least, most = np.rint(middle - half), np.rint(middle + half)
    return _pasted(pairs, np.concatenate([least, most], 1).clip(0, [height, width, height, width]).astype(np.int64))


def half_cutmix(pairs: Pairs, mix: Mix, rng: np.random.Generator) -> Mixed:
    """A half of the photo, as mix.halves says."""
    (height, width), size = pairs.own.shape[2:], pairs.size
    sideways, first = rng.random(size) < SIDEWAYS[mix.halves], rng.random(size) < 0.5
    # The middle is where the first half ends and the second begins.
    top = np.where(~sideways & ~first, height // 2, 0)
    left = np.where(sideways & ~first, width // 2, 0)
    bottom = np.where(~sideways & first, height // 2, height)
    right = np.where(sideways & first, width // 2, width)
    return _pasted(pairs, np.stack([top, left, bottom, right], 1))


# What mix.name names besides none.
MIXES: dict[str, Callable[[Pairs, Mix, np.random.Generator], Mixed]] = {
    "mixup": mixup,
    "cutmix": cutmix,
    "half_cutmix": half_cutmix,
}


class Mixer:
    """Photos followed by their partners -> mixed photos and targets; photos without partners stay as they are.

    What is chosen follows from (seed, epoch, batch, place in the whole batch): each of `world` processes mixes its
    share as one process would mix all.
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
        mixed, share = MIXES[self.mix.name](Pairs(own, others, places, size), self.mix, rng)
        return mixed, Targets(*(torch.lerp(a, b, share[:, None]) for a, b in zip(target, other, strict=True)))


def _pasted(pairs: Pairs, boxes: np.ndarray) -> Mixed:
    """Partners pasted into boxes int [size, 4]: top, left, bottom and right (exclusive)."""
    inside = _inside(torch.as_tensor(boxes[pairs.places], device=pairs.own.device), pairs.own.shape[2:])
    return torch.where(inside[:, None], pairs.others, pairs.own), inside.float().mean((1, 2))


def _inside(boxes: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """[B, 4] -> bool [B, H, W]."""
    top, left, bottom, right = (edge.view(-1, 1, 1) for edge in boxes.unbind(1))
    y = torch.arange(shape[0], device=boxes.device).view(1, -1, 1)
    x = torch.arange(shape[1], device=boxes.device).view(1, 1, -1)
    return (top <= y) & (y < bottom) & (left <= x) & (x < right)
