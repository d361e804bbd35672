"""Table + store + transform -> samples, each augmented by a seed of its own: no worker count changes a number."""

import signal
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from maskfold.data.store import Store
from maskfold.data.transforms import sample_seeds

NO_LABEL = -1


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class PhotoDataset(Dataset):
    """A batch of (epoch, row) -> (uint8 RGB [B, 3, H, W], labels int64 [B], rows int64 [B]), fetched as a whole.

    Images lie in memory as [B, H, W, 3], which is what channels_last means. Each is augmented by a seed of
    (seed, epoch, row). labels: int [N], or None for photos without; a negative row stands for ~row without its label,
    which is NO_LABEL.
    """

    def __init__(self, store: Store, labels: np.ndarray | None, transform, seed: int = 0):
        self.store, self.labels, self.transform, self.seed = store, labels, transform, seed

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        """A batch of one without its first axis."""
        images, labels, rows = self.__getitems__([key])
        return images[0], labels[0], rows[0]

    def __getitems__(self, keys: list[tuple[int, int]]) -> Batch:
        epoch, asked = keys[0][0], np.array([row for _, row in keys])
        rows = np.where(asked < 0, ~asked, asked)
        seeds = sample_seeds(self.seed, epoch, rows)
        images = None
        for n, (row, seed) in enumerate(zip(rows.tolist(), seeds, strict=True)):
            image = self.transform(self.store[row], seed)
            if images is None:
                images = _empty((len(rows), *image.shape))
                into = images.numpy()
            into[n] = image
        labels = (
            np.full(len(rows), NO_LABEL) if self.labels is None else np.where(asked < 0, NO_LABEL, self.labels[rows])
        )
        return images.permute(0, 3, 1, 2), torch.from_numpy(labels), torch.from_numpy(rows)


def _empty(shape: tuple[int, ...]) -> torch.Tensor:
    """uint8; in a worker in shared memory from the start, so that a batch is not copied on its way out."""
    images = torch.empty(shape, dtype=torch.uint8)
    return images if get_worker_info() is None else images.share_memory_()


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
    """Batches as the dataset makes them; the last, smaller one included."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=_leave_signals_to_the_main_process,
    )


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _leave_signals_to_the_main_process(_worker: int) -> None:
    """Ctrl-C and a cluster's SIGTERM reach the whole group: the main process saves first, fed to the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
