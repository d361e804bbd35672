"""Table + store + transform -> samples, each augmented by a seed of its own: no worker count changes a number."""

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from maskfold.loading.sampler import Key
from maskfold.loading.store import Store, Stores
from maskfold.loading.transforms import sample_seeds
from maskfold.machine_limits import exhausted

NO_LABEL = -1


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class PhotoDataset(Dataset):
    """A batch of (epoch, row, visit) -> (uint8 RGB [B, 3, H, W], labels int64 [B], rows int64 [B]), fetched as a whole.

    Images lie in memory as [B, H, W, 3], which is what channels_last means. Each is augmented by a seed of
    (seed, epoch, row, visit). labels: int [N], or None for photos without; a negative row stands for ~row without its
    label, which is NO_LABEL.
    """

    def __init__(self, store: Store | Stores, labels: np.ndarray | None, transform, seed: int = 0):
        self.store, self.labels, self.transform, self.seed = store, labels, transform, seed

    def __getitem__(self, key: Key) -> Batch:
        """A batch of one without its first axis."""
        images, labels, rows = self.__getitems__([key])
        return images[0], labels[0], rows[0]

    def __getitems__(self, keys: list[Key]) -> Batch:
        epochs, asked, visits = np.array(keys).T
        rows = np.where(asked < 0, ~asked, asked)
        seeds = sample_seeds(self.seed, int(epochs[0]), rows, visits)
        for n, (row, seed) in enumerate(zip(rows.tolist(), seeds, strict=True)):
            image = self.transform(self.store[row], seed)
            if n == 0:
                images = _empty((len(rows), *image.shape))
                into = images.numpy()
            into[n] = image
        labels = (
            np.full(len(rows), NO_LABEL) if self.labels is None else np.where(asked < 0, NO_LABEL, self.labels[rows])
        )
        return images.permute(0, 3, 1, 2), torch.from_numpy(labels), torch.from_numpy(rows)


def _empty(shape: tuple[int, ...]) -> torch.Tensor:
    """uint8; in a worker in shared memory from the start, so that a batch is not copied on its way out.

    Raises ResourceError where shared memory has no room for it.
    """
    images = torch.empty(shape, dtype=torch.uint8)
    if get_worker_info() is None:
        return images
    try:
        return images.share_memory_()
    except RuntimeError as fault:
        if (cause := exhausted(images.nbytes)) is not None:
            raise cause from fault
        raise
