"""A part of a run that is to be trained, with all that its training needs."""

from dataclasses import dataclass

import numpy as np

from maskfold.config.experiment import Config
from maskfold.data.images_table import Prepared
from maskfold.loading.store import Store
from maskfold.runs.run_folder import RunFolder
from maskfold.time_left import TimeLeft
from maskfold.training.stopping import Stop


@dataclass(frozen=True)
class Part:
    """A fold ('fold0', ...) or everybody ('full'): the rows that train it, and that validate it (none for 'full')."""

    name: str
    train_rows: np.ndarray
    valid_rows: np.ndarray


@dataclass(frozen=True)
class FoldJob:
    """The training of one part. config: with every choice made; stop: asked after each update; left: the run's."""

    run: RunFolder
    config: Config
    prepared: Prepared
    store: Store
    part: Part
    stop: Stop
    left: TimeLeft
