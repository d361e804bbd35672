"""Order of the photos in an epoch, their batches, and the partners with which photos are mixed.

The random choices depend only on seed, epoch and batch, so that a resumed run continues with the same batches.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch.utils.data import Sampler

from maskfold.config.experiment import Config, Mix
from maskfold.errors import UserError
from maskfold.labels import is_old

# Last element of a generator's seed (seed, epoch, batch, stream), so that partners and mixing get independent numbers.
PARTNER_STREAM, MIX_STREAM = 1, 2


class SampleKey(NamedTuple):
    """The key of a sample.

    row: row of the photo in the store; a negative `row` means the photo in row ~row, without its label. visit: see
    PhotoBatchSampler.
    """

    epoch: int
    row: int
    visit: int


class BatchKeys(NamedTuple):
    """The keys of one batch as arrays. rows: int [B], not negative; visits: int [B]; has_label: bool [B]."""

    epoch: int
    rows: np.ndarray
    visits: np.ndarray
    has_label: np.ndarray


def unpack_keys(keys: Sequence[SampleKey]) -> BatchKeys:
    epochs, signed_rows, visits = np.array(keys).T
    has_label = signed_rows >= 0
    return BatchKeys(int(epochs[0]), np.where(has_label, signed_rows, ~signed_rows), visits, has_label)


@dataclass(eq=False)
class PhotoBatchSampler(Sampler):
    """Yield this process's share of each batch, as a list of SampleKey.

    rows: int [N], the rows of the photos; an epoch has N samples. batch_size: number of photos over all `world_size`
    processes; the last batch may be smaller. shuffle: whether each epoch has a new order. A process whose share of a
    batch is empty gets one row without its label (~row), so that every process takes part in every update.

    A key contains the epoch, because persistent workers keep their copy of the dataset from the first epoch. `visit`
    distinguishes several samples of one photo in an epoch.

    sample: function (rows, random generator) -> the N rows of a shuffled epoch, in order; None for a random permutation
    of rows.
    partners: function (random generator, rows of the whole batch) -> a partner for each row, or None if the batch is
    not mixed. The share of a mixed batch lists this process's rows first, then their partners.
    """

    rows: np.ndarray
    batch_size: int
    shuffle: bool
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    sample: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None
    partners: Callable[[np.random.Generator, np.ndarray], np.ndarray | None] | None = None
    # Set by set_epoch.
    epoch: int = field(default=0, init=False)
    first: int = field(default=0, init=False)

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Set the epoch. Call this before each pass over the data.

        first: index of the first batch to yield, above 0 if training resumes within an epoch.
        """
        self.epoch, self.first = epoch, first

    def size(self, batch: int) -> int:
        """Number of photos in a batch, over all processes and without partners."""
        return min(self.batch_size, len(self.rows) - batch * self.batch_size)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        rows = self._order(np.random.default_rng((self.seed, self.epoch))) if self.shuffle else self.rows
        visits = pd.Series(rows).groupby(rows).cumcount().to_numpy()
        for batch in range(self.first, len(self)):
            positions = np.arange(batch * self.batch_size, batch * self.batch_size + self.size(batch))
            share = self._share(rows[positions], visits[positions])
            if self.partners is not None:
                rng = np.random.default_rng((self.seed, self.epoch, batch, PARTNER_STREAM))
                partners = self.partners(rng, rows[positions])
                # The visits of an epoch's own rows are below len(rows). Partners get larger ones, so that all keys are
                # unique.
                share += [] if partners is None else self._share(partners, len(rows) + positions)
            yield share

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(self.rows) if self.sample is None else self.sample(self.rows, rng)

    def _share(self, rows: np.ndarray, visits: np.ndarray) -> list[SampleKey]:
        own = slice(self.rank, None, self.world_size)
        pairs = zip(rows[own].tolist(), visits[own].tolist(), strict=True)
        keys = [SampleKey(self.epoch, row, visit) for row, visit in pairs]
        return keys or [SampleKey(self.epoch, ~int(rows[0]), int(visits[0]))]


def train_batch_sampler(
    config: Config, rows: np.ndarray, labels: np.ndarray, rank: int = 0, world_size: int = 1
) -> PhotoBatchSampler:
    """Return the sampler of the training photos `rows`, configured by data.sampling and mix.

    labels: int [N], the labels of all photos. Raises UserError if photos are mixed and mix.partner is `old`, but no
    training photo shows a person of 60 or more.
    """
    partners = None if config.mix.name == "none" else Partners(config.mix, rows, labels)
    sample = partial(SAMPLINGS[config.data.sampling], labels)
    return PhotoBatchSampler(rows, config.optim.batch_size, True, config.seed, rank, world_size, sample, partners)


def sample_balanced(labels: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sample len(rows) rows, class-balanced, in random order.

    labels: int [N], the labels of all photos. The classes that occur in `rows` are sampled equally often, up to a
    difference of one. A photo is repeated only after all photos of its class have been sampled.
    """
    row_labels = labels[rows]
    classes = np.unique(row_labels)
    quotas = len(rows) // len(classes) + (rng.permutation(len(classes)) < len(rows) % len(classes))
    sampled = []
    for label, quota in zip(classes, quotas, strict=True):
        class_rows = rows[row_labels == label]
        passes = [rng.permutation(class_rows) for _ in range(-(-quota // len(class_rows)))]
        sampled.append(np.concatenate(passes or [class_rows])[:quota])
    return rng.permutation(np.concatenate(sampled))


# Values of data.sampling, as functions (labels int [N] of all photos, rows, random generator) -> len(rows) rows in
# random order.
SAMPLINGS: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "all": lambda labels, rows, rng: rng.permutation(rows),
    "balanced": sample_balanced,
}

# Function (uniform random numbers [B] from [0, 1), rows of a batch [B]) -> rows of their partners [B].
PartnerChoice = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _any_partner(rows: np.ndarray, labels: np.ndarray) -> PartnerChoice:
    return lambda uniform, batch: rows[(uniform * len(rows)).astype(int)]


def _same_class_partner(rows: np.ndarray, labels: np.ndarray) -> PartnerChoice:
    rows_by_class = {label: rows[labels[rows] == label] for label in np.unique(labels[rows])}

    def choose(uniform: np.ndarray, batch: np.ndarray) -> np.ndarray:
        candidates = [rows_by_class[label] for label in labels[batch]]
        return np.array([own[int(number * len(own))] for own, number in zip(candidates, uniform, strict=True)])

    return choose


def _old_partner(rows: np.ndarray, labels: np.ndarray) -> PartnerChoice:
    old_rows = rows[is_old(labels[rows])]
    if not len(old_rows):
        raise UserError("mix.partner old: no training photo shows a person of 60 or more; use mix.partner any or same")
    return _any_partner(old_rows, labels)


# Values of mix.partner, as functions (training rows, labels int [N] of all photos) -> PartnerChoice.
PARTNERS: dict[str, Callable[[np.ndarray, np.ndarray], PartnerChoice]] = {
    "any": _any_partner,
    "same": _same_class_partner,
    "old": _old_partner,
}


class Partners:
    """Choose a partner for each photo of a batch. With probability mix.clean, return None: the batch is not mixed."""

    def __init__(self, mix: Mix, rows: np.ndarray, labels: np.ndarray):
        self.clean, self.choose = mix.clean, PARTNERS[mix.partner](rows, labels)

    def __call__(self, rng: np.random.Generator, batch: np.ndarray) -> np.ndarray | None:
        if rng.random() < self.clean:
            return None
        return self.choose(rng.random(len(batch)), batch)
