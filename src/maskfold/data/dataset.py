"""Table + store + transform -> samples, each augmented by a seed of its own: no worker count changes a number."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from maskfold.data.store import Store

NO_LABEL = -1


class PhotoDataset(Dataset):
    """(epoch, row) -> (uint8 RGB tensor [3, H, W], label, row); the augmentation is seeded by (seed, epoch, row).

    labels: int [N], or None for photos without (NO_LABEL is returned).
    """

    def __init__(self, store: Store, labels: np.ndarray | None, transform, seed: int = 0):
        self.store, self.labels, self.transform, self.seed = store, labels, transform, seed

    def __getitem__(self, at: tuple[int, int]) -> tuple[torch.Tensor, int, int]:
        epoch, row = at
        image = self.transform(self.store[row], (self.seed, epoch, row))
        label = NO_LABEL if self.labels is None else int(self.labels[row])
        # A copy where the transform returned the store's own read-only memory or a flipped view of it.
        return torch.from_numpy(np.require(image, requirements=["C", "W", "O"])).permute(2, 0, 1), label, row


class EpochSampler(Sampler):
    """Yields (epoch, row): in a new order each epoch with `shuffle`, else as given. set_epoch goes before each pass.

    The epoch travels with the rows, since persistent workers keep the dataset they started with.
    """

    def __init__(self, rows: np.ndarray, shuffle: bool, seed: int = 0):
        self.rows, self.shuffle, self.seed, self.epoch = np.asarray(rows), shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rows = np.random.default_rng((self.seed, self.epoch)).permutation(self.rows) if self.shuffle else self.rows
        return ((self.epoch, int(row)) for row in rows)


def make_loader(
    dataset: PhotoDataset, rows: np.ndarray, batch_size: int, shuffle: bool, workers: int, pin: bool
) -> DataLoader:
    """Batches of (uint8 [B, 3, H, W], labels int64 [B], rows int64 [B]); the last, smaller one included."""
    sampler = EpochSampler(rows, shuffle, dataset.seed)
    return DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=workers, pin_memory=pin, persistent_workers=workers > 0
    )
