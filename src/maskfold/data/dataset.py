"""Table + store + transform -> samples, each augmented by a seed of its own: no worker count changes a number."""

import signal
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from maskfold.data.store import Store

NO_LABEL = -1


class PhotoDataset(Dataset):
    """(epoch, row) -> (uint8 RGB tensor [3, H, W], label, row); the augmentation is seeded by (seed, epoch, row).

    labels: int [N], or None for photos without; a negative row stands for ~row without its label, which is NO_LABEL.
    """

    def __init__(self, store: Store, labels: np.ndarray | None, transform, seed: int = 0):
        self.store, self.labels, self.transform, self.seed = store, labels, transform, seed

    def __getitem__(self, at: tuple[int, int]) -> tuple[torch.Tensor, int, int]:
        epoch, row = at
        labelled = self.labels is not None and row >= 0
        row = max(row, ~row)
        image = self.transform(self.store[row], (self.seed, epoch, row))
        # A copy where the transform returned the store's own read-only memory or a flipped view of it.
        tensor = torch.from_numpy(np.require(image, requirements=["C", "W", "O"])).permute(2, 0, 1)
        return tensor, int(self.labels[row]) if labelled else NO_LABEL, row


class Batches(Sampler):
    """This process's share of each batch, as lists of (epoch, row); rows in a new order each epoch with `shuffle`.

    batch_size counts over all `world` processes. A share that would be empty (the last batch may be smaller than
    `world`) is one row without its label, so that every process takes part in every update. The epoch travels with
    the rows, since persistent workers keep the dataset they started with.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, shuffle: bool, seed: int = 0, rank: int = 0, world: int = 1):
        self.rows, self.batch_size, self.shuffle, self.seed = np.asarray(rows), batch_size, shuffle, seed
        self.rank, self.world = rank, world
        self.epoch, self.first = 0, 0

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Goes before each pass; `first` is the batch to begin with."""
        self.epoch, self.first = epoch, first

    def size(self, batch: int) -> int:
        """Photos in a batch, over all processes."""
        return min(self.batch_size, len(self.rows) - batch * self.batch_size)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rows = np.random.default_rng((self.seed, self.epoch)).permutation(self.rows) if self.shuffle else self.rows
        for batch in range(self.first, len(self)):
            whole = rows[batch * self.batch_size : (batch + 1) * self.batch_size]
            share = whole[self.rank :: self.world].tolist() or [~int(whole[0])]
            yield [(self.epoch, row) for row in share]


def make_loader(dataset: PhotoDataset, batches: Batches, workers: int, pin: bool) -> DataLoader:
    """Batches of (uint8 [B, 3, H, W], labels int64 [B], rows int64 [B]); the last, smaller one included."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=_leave_signals_to_the_main_process,
    )


def _leave_signals_to_the_main_process(_worker: int) -> None:
    """Ctrl-C and a cluster's SIGTERM reach the whole group: the main process saves first, fed to the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
