"""What to train: the request of a command, the parts of a run (its folds and the refit), and what each part needs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskfold.cache_folder import CacheFolder
from maskfold.config.experiment import Config
from maskfold.data.folds import split
from maskfold.data.images_table import Prepared
from maskfold.environment import check_compile_variables, check_launch, launched_processes
from maskfold.errors import UserError
from maskfold.runs.run_folder import FULL, NAME, RunFolder, fold_name, runs_root
from maskfold.runs.wandb_logger import offline_runs
from maskfold.time_left import TimeLeft
from maskfold.training.stop_request import StopRequest

if TYPE_CHECKING:
    from maskfold.loading.store import Store


@dataclass(frozen=True)
class TrainRequest:
    """What a command trains, and how.

    folds: fold numbers, None for all. refit: also train one model on all people. fresh: delete the run first.
    parallel: number of parts that are trained at once, each in its own process. stop: the request to stop training,
    with the deadline. out: the run folder; None for a folder with the run's name in runs_root(). cache: the folder of
    caches.
    """

    folds: Sequence[int] | None = None
    refit: bool = False
    fresh: bool = False
    parallel: int = 1
    stop: StopRequest = field(default_factory=StopRequest)
    out: Path | None = None
    cache: CacheFolder | None = None


def check_request(config: Config, request: TrainRequest) -> None:
    """Raise UserError if the request or the environment is not valid. The data and the run folder are not checked."""
    if request.parallel > 1 and launched_processes() > 1:
        raise UserError(
            "--parallel-folds: torchrun already trains each fold on all processes; use torchrun or --parallel-folds, "
            "not both"
        )
    check_launch()
    if config.run.compile:
        check_compile_variables()
    if request.refit and config.optim.schedule == "plateau":
        raise UserError(
            "--refit: no people are left for validation, but optim.schedule plateau needs a score; choose another "
            "schedule"
        )
    if request.refit and config.run.keep == "soup":
        raise UserError(
            "--refit: no people are left for validation, but run.keep soup needs a score; use run.keep mean"
        )


def repeat_configs(config: Config, name: str, seeds: Sequence[int]) -> dict[str, Config]:
    """The configuration of each repeat, by the name of its run: {NAME-s<seed>: config}."""
    return {f"{name}-s{seed}": config.model_copy(update={"seed": seed}) for seed in seeds}


def requested_run(name: str, request: TrainRequest) -> RunFolder:
    """The run that a command trains. Raises UserError if it is new and its name is not valid."""
    run = RunFolder(request.out or runs_root() / name)
    if not run.started and not NAME.fullmatch(name):
        flag, value = ("--name", name) if request.out is None else ("--out", str(request.out))
        raise UserError(f"{flag} {value!r}: a run name has only letters, digits and . _ + -; give another {flag}")
    return run


@dataclass(frozen=True)
class Part:
    """A fold ('fold0', ...) or the refit on all people ('full'), with its rows in the images table.

    train_rows, val_rows: int arrays; val_rows is empty for 'full'.
    """

    name: str
    train_rows: np.ndarray
    val_rows: np.ndarray


def requested_parts(prepared: Prepared, fold_numbers: Sequence[int] | None, refit: bool) -> list[Part]:
    """Return the folds in order (all for None), then the refit if asked. Raises UserError if a fold does not exist."""
    all_folds = range(prepared.num_folds)
    folds = all_folds if fold_numbers is None else sorted(set(fold_numbers))
    if unknown := [fold for fold in folds if fold not in all_folds]:
        path = prepared.folder / "folds.csv"
        raise UserError(f"--folds {unknown[0]}: there are folds 0 to {prepared.num_folds - 1} in {path}")
    parts = [Part(fold_name(fold), *split(prepared.images, prepared.folds, fold)) for fold in folds]
    if refit:
        all_rows = np.arange(len(prepared.images))
        parts.append(Part(FULL, all_rows, all_rows[:0]))
    return parts


def print_finished(parts: Sequence[str]) -> None:
    """Print the names of the parts that are not trained because they are finished."""
    for part in parts:
        print(f"{part}: already finished", file=sys.stderr)


def print_offline_runs(run: RunFolder) -> None:
    """Print the command that uploads the W&B runs that were kept offline, if there are any."""
    if offline := offline_runs(run.folder):
        print(f"W&B runs are kept offline; to upload them: wandb sync {shlex.join(map(str, offline))}", file=sys.stderr)


@dataclass(frozen=True)
class TrainContext:
    """What the parts of a run have in common. It can be sent to another process.

    config: resolved (see runs/resolved_config.py). store: the store of the training photos. stop: the request to stop
    training.
    """

    run: RunFolder
    config: Config
    prepared: Prepared
    store: Store
    stop: StopRequest


@dataclass(frozen=True)
class FoldJob:
    """The training of one part. time_left: the estimate of the remaining time of the whole run."""

    context: TrainContext
    part: Part
    time_left: TimeLeft
