"""Dataset of stored photos. Each sample has its own augmentation seed, so results do not depend on num_workers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from maskfold.loading.sampler import SampleKey, unpack_keys
from maskfold.loading.store import ConcatStore, Store
from maskfold.loading.transforms import sample_seeds
from maskfold.machine_limits import exhausted_resource

NO_LABEL = -1


class Batch(NamedTuple):
    """A batch of photos.

    images: RGB uint8 [B, 3, H, W], or backbone features float32 [B, F]. labels: int64 [B], NO_LABEL for a photo without
    a label. rows: int64 [B], the rows of the photos in the store.
    """

    images: torch.Tensor
    labels: torch.Tensor
    rows: torch.Tensor


def unlabelled_batch(photos: np.ndarray, first_row: int = 0) -> Batch:
    """Make a batch of preprocessed photos uint8 [B, H, W, 3], which get consecutive rows from `first_row` on."""
    rows = torch.arange(first_row, first_row + len(photos))
    return Batch(torch.from_numpy(photos).permute(0, 3, 1, 2), torch.full((len(photos),), NO_LABEL), rows)


class PhotoDataset(Dataset):
    """Dataset that loads the photos of a list of SampleKeys as one Batch.

    Images are in the channels_last memory format. Each is augmented with a seed that depends on (seed, epoch, row,
    visit). labels: int [N], or None for photos without labels. transform: function (stored photo, seed) -> image.
    """

    def __init__(self, store: Store | ConcatStore, labels: np.ndarray | None, transform, seed: int = 0):
        self.store, self.labels, self.transform, self.seed = store, labels, transform, seed

    def __getitem__(self, key: SampleKey) -> Batch:
        """Load one sample: a Batch without the batch axis."""
        images, labels, rows = self.__getitems__([key])
        return Batch(images[0], labels[0], rows[0])

    def __getitems__(self, keys: Sequence[SampleKey]) -> Batch:
        epoch, rows, visits, has_label = unpack_keys(keys)
        seeds = sample_seeds(self.seed, epoch, rows, visits)
        for i, (row, seed) in enumerate(zip(rows.tolist(), seeds, strict=True)):
            image = self.transform(self.store[row], seed)
            if i == 0:
                images = _empty((len(rows), *image.shape))
                array = images.numpy()
            array[i] = image
        if self.labels is None:
            labels = np.full(len(rows), NO_LABEL)
        else:
            labels = np.where(has_label, self.labels[rows], NO_LABEL)
        return Batch(images.permute(0, 3, 1, 2), torch.from_numpy(labels), torch.from_numpy(rows))


def _empty(shape: tuple[int, ...]) -> torch.Tensor:
    """Allocate a uint8 tensor. In a worker it is in shared memory, so that sending it does not copy the pixels.

    Raises ResourceError if shared memory is full or too many files are open.
    """
    images = torch.empty(shape, dtype=torch.uint8)
    if get_worker_info() is None:
        return images
    try:
        return images.share_memory_()
    except RuntimeError as error:
        if (cause := exhausted_resource(images.nbytes)) is not None:
            raise cause from error
        raise
