"""Which photos make up an epoch and its batches, and with whom each is mixed: functions of seed, epoch and batch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from torch.utils.data import Sampler

from maskfold.config.experiment import Config, Mix
from maskfold.errors import UserError
from maskfold.labels import is_old

# Each kind of draw of one (seed, epoch, batch) has a stream of its own.
PARTNER_STREAM, MIX_STREAM = 1, 2

Key = tuple[int, int, int]


@dataclass(eq=False)
class Batches(Sampler):
    """This process's share of each batch, as lists of (epoch, row, visit); in a new order each epoch with `shuffle`.

    batch_size counts over all `world` processes. A share that would be empty (the last batch may be smaller than
    `world`) is one row without its label (~row), so that every process takes part in every update. The epoch travels
    with the rows, since persistent workers keep the dataset they started with; so does `visit`, a number that tells
    apart the times that one epoch sees one photo.

    sample: rows, random generator -> the rows of an epoch that is shuffled, as many; without it a permutation.
    partners: random generator, whole batch -> a partner for each of its rows, or None to leave it unmixed; a share
    with partners holds them after its own rows.
    """

    rows: np.ndarray
    batch_size: int
    shuffle: bool
    seed: int = 0
    rank: int = 0
    world: int = 1
    sample: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None
    partners: Callable[[np.random.Generator, np.ndarray], np.ndarray | None] | None = None
    # Set by set_epoch.
    epoch: int = field(default=0, init=False)
    first: int = field(default=0, init=False)

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Goes before each pass; `first` is the batch to begin with."""
        self.epoch, self.first = epoch, first

    def size(self, batch: int) -> int:
        """Photos in a batch, over all processes and without partners."""
        return min(self.batch_size, len(self.rows) - batch * self.batch_size)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        rows = self._order(np.random.default_rng((self.seed, self.epoch))) if self.shuffle else self.rows
        visits = pd.Series(rows).groupby(rows).cumcount().to_numpy()
        for batch in range(self.first, len(self)):
            at = np.arange(batch * self.batch_size, batch * self.batch_size + self.size(batch))
            share = self._share(rows[at], visits[at])
            if self.partners is not None:
                rng = np.random.default_rng((self.seed, self.epoch, batch, PARTNER_STREAM))
                partners = self.partners(rng, rows[at])
                # A partner's visit is none of the epoch's own.
                share += [] if partners is None else self._share(partners, len(rows) + at)
            yield share

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(self.rows) if self.sample is None else self.sample(self.rows, rng)

    def _share(self, rows: np.ndarray, visits: np.ndarray) -> list[Key]:
        mine = slice(self.rank, None, self.world)
        keys = [(self.epoch, row, visit) for row, visit in zip(rows[mine].tolist(), visits[mine].tolist(), strict=True)]
        return keys or [(self.epoch, ~int(rows[0]), int(visits[0]))]


def training_batches(config: Config, rows: np.ndarray, labels: np.ndarray, rank: int = 0, world: int = 1) -> Batches:
    """Batches of the training photos `rows`, drawn as data.sampling and mix.* say; labels: int [N] of all photos."""
    partners = None if config.mix.name == "none" else Partners(config.mix, rows, labels)
    sample = partial(SAMPLINGS[config.data.sampling], labels)
    return Batches(rows, config.optim.batch_size, True, config.seed, rank, world, sample, partners)


def balanced(labels: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many rows as are given, of each class that occurs alike many (or one more), in random order.

    labels: int [N] of all rows. A class gives all its photos before one comes again.
    """
    own_labels = labels[rows]
    classes = np.unique(own_labels)
    quotas = len(rows) // len(classes) + (rng.permutation(len(classes)) < len(rows) % len(classes))
    drawn = []
    for label, quota in zip(classes, quotas, strict=True):
        own = rows[own_labels == label]
        drawn.append(np.concatenate([rng.permutation(own) for _ in range(-(-quota // len(own)))] or [own])[:quota])
    return rng.permutation(np.concatenate(drawn))


# What data.sampling names: labels int [N] of all rows, rows, random generator -> as many rows in random order.
SAMPLINGS: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "all": lambda labels, rows, rng: rng.permutation(rows),
    "balanced": balanced,
}

# Random numbers float [B] from 0 to 1, and the rows [B] of a batch -> their partners' rows [B].
Choice = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _any(rows: np.ndarray, labels: np.ndarray) -> Choice:
    return lambda picks, batch: rows[(picks * len(rows)).astype(int)]


def _same_class(rows: np.ndarray, labels: np.ndarray) -> Choice:
    rows_of_class = {label: rows[labels[rows] == label] for label in np.unique(labels[rows])}

    def choose(picks: np.ndarray, batch: np.ndarray) -> np.ndarray:
        kin = [rows_of_class[label] for label in labels[batch]]
        return np.array([own[int(pick * len(own))] for own, pick in zip(kin, picks, strict=True)])

    return choose


def _old(rows: np.ndarray, labels: np.ndarray) -> Choice:
    old_rows = rows[is_old(labels[rows])]
    if not len(old_rows):
        raise UserError("mix.partner old: no training photo shows a person of 60 and more; choose any or same")
    return _any(old_rows, labels)


# What mix.partner names: training rows, labels int [N] of all rows -> a choice of partners.
PARTNERS: dict[str, Callable[[np.ndarray, np.ndarray], Choice]] = {"any": _any, "same": _same_class, "old": _old}


class Partners:
    """A training photo of mix.partner's kind for each photo of a batch, or None for a batch that stays clean."""

    def __init__(self, mix: Mix, rows: np.ndarray, labels: np.ndarray):
        self.clean, self.choose = mix.clean, PARTNERS[mix.partner](rows, labels)

    def __call__(self, rng: np.random.Generator, batch: np.ndarray) -> np.ndarray | None:
        if rng.random() < self.clean:
            return None
        return self.choose(rng.random(len(batch)), batch)
