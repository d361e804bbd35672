"""Mix each training photo with a partner photo on the device, by mixup, CutMix or half-image CutMix.

The targets are mixed in the same proportion as the pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from maskfold.config.experiment import Mix
from maskfold.loading.sampler import MIX_STREAM
from maskfold.models.targets import Targets

# Value of mix.halves -> probability that half_cutmix pastes a left or right half instead of an upper or lower half.
SIDEWAYS = {"left_right": 1.0, "upper_lower": 0.0, "both": 0.5}


@dataclass(frozen=True)
class Pairs:
    """Photos and their partners, [B, 3, H, W] each, 0 to 255.

    positions: int [B], the positions of these photos in the whole batch, which has `batch_size` photos over all
    processes. Random numbers are sampled for the whole batch, so that they do not depend on the number of processes.
    """

    images: torch.Tensor
    partners: torch.Tensor
    positions: np.ndarray
    batch_size: int


# Mixed photos [B, 3, H, W], and the share of each photo that comes from its partner, float32 [B].
Mixed = tuple[torch.Tensor, torch.Tensor]


def mixup(pairs: Pairs, mix: Mix, rng: np.random.Generator) -> Mixed:
    """Blend each photo with its partner (Zhang et al. 2018, mixup, eq. 1).

    The weight lambda of the photo is sampled from Beta(alpha, alpha).
    """
    lam = rng.beta(mix.alpha, mix.alpha, pairs.batch_size)[pairs.positions]
    share = torch.as_tensor(1 - lam, dtype=torch.float32, device=pairs.images.device)
    return torch.lerp(pairs.images.float(), pairs.partners.float(), share.view(-1, 1, 1, 1)), share


def cutmix(pairs: Pairs, mix: Mix, rng: np.random.Generator) -> Mixed:
    """Paste a box of the partner into each photo (Yun et al. 2019, CutMix, eq. 2).

    The box has the photo's aspect ratio and is clipped at the photo's borders.
    """
    (height, width), size = pairs.images.shape[2:], pairs.batch_size
    side = np.sqrt(1 - rng.beta(mix.alpha, mix.alpha, size))
    center = np.stack([rng.random(size) * height, rng.random(size) * width], 1)
    half = np.stack([side * height, side * width], 1) / 2
    start, end = np.rint(center - half), np.rint(center + half)
    return _paste(pairs, np.concatenate([start, end], 1).clip(0, [height, width, height, width]).astype(np.int64))


def half_cutmix(pairs: Pairs, mix: Mix, rng: np.random.Generator) -> Mixed:
    """Paste one half of the partner into each photo: left, right, upper or lower, as mix.halves allows."""
    (height, width), size = pairs.images.shape[2:], pairs.batch_size
    sideways, first = rng.random(size) < SIDEWAYS[mix.halves], rng.random(size) < 0.5
    # If `first` is true, the left or upper half is pasted, else the right or lower half.
    top = np.where(~sideways & ~first, height // 2, 0)
    left = np.where(sideways & ~first, width // 2, 0)
    bottom = np.where(~sideways & first, height // 2, height)
    right = np.where(sideways & first, width // 2, width)
    return _paste(pairs, np.stack([top, left, bottom, right], 1))


# Values of mix.name other than none.
MIXES: dict[str, Callable[[Pairs, Mix, np.random.Generator], Mixed]] = {
    "mixup": mixup,
    "cutmix": cutmix,
    "half_cutmix": half_cutmix,
}


class Mixer:
    """Mix the photos of a batch with their partners, which are the second half of the batch.

    Random numbers depend only on (seed, epoch, batch) and on a photo's position in the whole batch. `world_size`
    processes therefore mix a batch exactly as a single process does.
    """

    def __init__(self, mix: Mix, seed: int, rank: int = 0, world_size: int = 1):
        self.mix, self.seed, self.rank, self.world_size = mix, seed, rank, world_size

    def __call__(
        self, images: torch.Tensor, targets: Targets, epoch: int, batch: int, batch_size: int
    ) -> tuple[torch.Tensor, Targets]:
        """Return the mixed images and targets, or both unchanged if the batch has no partners.

        images: [B, 3, H, W], or [2B, 3, H, W] with partners, 0 to 255. batch: index of the batch in the epoch.
        batch_size: number of photos in the whole batch, over all processes and without partners.
        """
        positions = np.arange(batch_size)[self.rank :: self.world_size]
        # A process whose share of the batch is empty has one photo without a label (see PhotoBatchSampler).
        positions = positions if len(positions) else np.array([0])
        if len(images) == len(positions):
            return images, targets
        rng = np.random.default_rng((self.seed, epoch, batch, MIX_STREAM))
        (images, partners), (targets, partner_targets) = images.chunk(2), targets.chunk(2)
        mixed, share = MIXES[self.mix.name](Pairs(images, partners, positions, batch_size), self.mix, rng)
        pairs = zip(targets, partner_targets, strict=True)
        return mixed, Targets(*(torch.lerp(own, other, share[:, None]) for own, other in pairs))


def _paste(pairs: Pairs, boxes: np.ndarray) -> Mixed:
    """Paste a box of the partner into each photo.

    boxes: int [batch_size, 4]: top, left, bottom, right; bottom and right are exclusive.
    """
    box_masks = _box_masks(torch.as_tensor(boxes[pairs.positions], device=pairs.images.device), pairs.images.shape[2:])
    return torch.where(box_masks[:, None], pairs.partners, pairs.images), box_masks.float().mean((1, 2))


def _box_masks(boxes: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Return masks, bool [B, H, W], that are true inside the boxes [B, 4]."""
    top, left, bottom, right = (edge.view(-1, 1, 1) for edge in boxes.unbind(1))
    y = torch.arange(shape[0], device=boxes.device).view(1, -1, 1)
    x = torch.arange(shape[1], device=boxes.device).view(1, 1, -1)
    return (top <= y) & (y < bottom) & (left <= x) & (x < right)
