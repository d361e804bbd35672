"""Training a run: what is asked for is checked, then one part follows the other."""

import os
import shlex
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from maskfold.config.experiment import Config, replaced
from maskfold.data.folds import split
from maskfold.data.images_table import Prepared
from maskfold.data.prepare import ensure_prepared
from maskfold.environment import check_compile, check_launch
from maskfold.errors import UserError
from maskfold.loading.sampler import training_batches
from maskfold.loading.store import open_store
from maskfold.loading.transforms import train_transform
from maskfold.models.classifier import build_classifier
from maskfold.models.device import check_compiler, make_fast, pick_device, pick_precisions, threads_each
from maskfold.models.input_size import check_input_size
from maskfold.runs.run_folder import FULL, NAME, RunFolder, fold_name, read_provenance, runs_root
from maskfold.runs.summary import write_summary
from maskfold.runs.wandb_logger import UNREACHED, offline_runs
from maskfold.time_left import TimeLeft
from maskfold.training.accelerators import process_state
from maskfold.training.fold_job import FoldJob, Part
from maskfold.training.fold_trainer import run_job
from maskfold.training.optim import make_optimizer
from maskfold.training.parallel_folds import fit_at_once
from maskfold.training.pseudo_labels import LABELS
from maskfold.training.pseudo_sources import check_pseudo
from maskfold.training.stopping import Stop


def fit_run(
    config: Config,
    name: str,
    folds: list[int] | None = None,
    refit: bool = False,
    fresh: bool = False,
    parallel: int = 1,
    stop_after: float | None = None,
) -> tuple[RunFolder, dict | None]:
    """Train the folds that are not finished (all without `folds`), with `refit` everybody too; returns run and summary.

    `parallel` of them are trained at once, in processes of their own. Under torchrun every process calls this; the
    first one writes. stop_after: seconds from now after which it stops at the next update, saves and raises TimeIsUp.
    Raises UserError where the run can't be started or resumed; nothing of it has been touched then.
    """
    deadline = None if stop_after is None else time.time() + stop_after
    if parallel > 1 and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("--parallel-folds: torchrun gives each fold all processes already; use one or the other")
    check_launch()
    if config.run.compile:
        check_compile()
    if not NAME.fullmatch(name):
        raise UserError(f"run name {name!r}: letters, digits and . _ + - are expected; give another --name")
    if refit and config.optim.schedule == "plateau":
        raise UserError("--refit: nobody is left to validate on, so optim.schedule plateau has nothing to look at")
    if refit and config.run.keep == "soup":
        raise UserError("--refit: nobody is left to validate on, so run.keep soup can't choose; use run.keep mean")
    run = RunFolder(runs_root() / name)
    device = pick_device(config.run)
    make_fast(device)
    if fresh or not run.started:
        # What can't be trained is told before anything is deleted or written.
        pick_precisions(config.run, device)
        _try_model(config)
        check_compiler(config.run, device)
    else:
        read_provenance(run.folder)
    processes = process_state(device)
    with processes.main_process_first():
        prepared = ensure_prepared(config.data)
    wanted = list(range(prepared.num_folds)) if folds is None else sorted(set(folds))
    if wrong := [fold for fold in wanted if fold not in range(prepared.num_folds)]:
        where = prepared.folder / "folds.csv"
        raise UserError(f"--folds {wrong[0]}: there are folds 0 to {prepared.num_folds - 1} in {where}")
    parts = [Part(fold_name(fold), *split(prepared.images, prepared.folds, fold)) for fold in wanted]
    if refit:
        everybody = np.arange(len(prepared.images))
        parts.append(Part(FULL, everybody, everybody[:0]))
    # What no fold can be fed with is reported before the first one is trained.
    labels = prepared.images.label.to_numpy()
    updates = {p.name: config.optim.epochs * len(training_batches(config, p.train_rows, labels)) for p in parts}
    to_start = [part.name for part in parts if fresh or not (run.part_dir(part.name) / LABELS).exists()]
    check_pseudo(run, config, prepared, to_start)
    # By all parts, not by those that are left: a resumed run keeps its number of threads.
    slots = min(parallel, len(parts))
    with run.lock() if processes.is_main_process else nullcontext():
        if processes.is_main_process:
            threads = threads_each(slots) if slots > 1 else torch.get_num_threads()
            _start_or_check(run, config, prepared, device, fresh, threads)
        processes.wait_for_everyone()
        # From what is asked for now, so that what may differ (workers, device, W&B) is this start's.
        config = resolved(config, prepared, device, run.config)
        with processes.main_process_first():
            store = open_store(prepared, prepared.images, config.data)
        for part in parts:
            if run.finished(part.name) and processes.is_main_process:
                print(f"{part.name}: finished before", file=sys.stderr)
        todo = [part for part in parts if not run.finished(part.name)]
        if todo:
            # A run may be resumed on another machine.
            check_compiler(config.run, device)
        (run.folder / UNREACHED).unlink(missing_ok=True)
        with Stop(deadline).listening() as stop:
            if slots > 1:
                fit_at_once(run, config, prepared, todo, slots, stop, updates)
            else:
                left = TimeLeft({part.name: updates[part.name] for part in todo})
                for part in todo:
                    run_job(FoldJob(run, config, prepared, store, part, stop, left), is_first=part is todo[0])
        if not processes.is_main_process:
            return run, None
        summary = write_summary(run, prepared)
        if kept := offline_runs(run.folder):
            print(f"W&B runs are kept offline; this sends them: wandb sync {shlex.join(kept)}", file=sys.stderr)
        return run, summary


def _try_model(config: Config) -> None:
    """Build augmentation, model and optimiser and look at photos of no content. Raises UserError for what fails."""
    train_transform(config.data)
    model = build_classifier(config)
    make_optimizer(model, config.optim)
    check_input_size(model, config)


def _start_or_check(
    run: RunFolder, config: Config, prepared: Prepared, device: torch.device, fresh: bool, threads: int
) -> None:
    if run.started and not fresh:
        run.check_same(resolved(config, prepared, device, run.config), prepared)
        # A run of an earlier version has no record of it.
        if (before := run.provenance.get("threads", threads)) != threads and device.type == "cpu":
            print(
                f"warning: {run.folder} was started with {before} CPU threads and resumes with {threads}; the last "
                f"digits of its results may differ (set OMP_NUM_THREADS={before} for the same ones)",
                file=sys.stderr,
            )
    else:
        config = resolved(config, prepared, device)
        run.clear()
        run.start(config, prepared, threads)


def resolved(config: Config, prepared: Prepared, device: torch.device, recorded: Config | None = None) -> Config:
    """The config with every choice made: places, folds as they stand, precision; those of the first start are kept."""
    run = config.run
    if recorded is not None:
        open_choices = [key for key in ("precision", "predict_precision") if getattr(run, key) == "auto"]
        run = run.model_copy(update={key: getattr(recorded.run, key) for key in open_choices})
    precision, predict_precision = pick_precisions(run, device)
    seed = prepared.meta["fold_seed"]
    return replaced(
        config,
        data={
            "root": Path(prepared.meta["root"]),
            "prepared": prepared.folder.absolute(),
            "folds": prepared.num_folds,
            # Not known of folds that came from elsewhere.
            "fold_seed": config.data.fold_seed if seed is None else seed,
        },
        run={"precision": precision, "predict_precision": predict_precision},
    )
