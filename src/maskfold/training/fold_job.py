"""A part of a run (a fold or the refit), and what its training needs."""

from dataclasses import dataclass

import numpy as np

from maskfold.config.experiment import Config
from maskfold.data.images_table import Prepared
from maskfold.loading.store import Store
from maskfold.runs.run_folder import RunFolder
from maskfold.time_left import TimeLeft
from maskfold.training.stop_request import StopRequest


@dataclass(frozen=True)
class Part:
    """A fold ('fold0', ...) or the refit on everybody ('full'), with its rows of the images table.

    train_rows, val_rows: int [N]; val_rows is empty for 'full'.
    """

    name: str
    train_rows: np.ndarray
    val_rows: np.ndarray


@dataclass(frozen=True)
class TrainContext:
    """What the parts of a run have in common. It can be sent to another process.

    config: resolved (see fit.resolve_config). store: of the training photos. stop: checked after each update.
    """

    run: RunFolder
    config: Config
    prepared: Prepared
    store: Store
    stop: StopRequest


@dataclass(frozen=True)
class FoldJob:
    """The training of one part. time_left: estimate for the whole run."""

    context: TrainContext
    part: Part
    time_left: TimeLeft
