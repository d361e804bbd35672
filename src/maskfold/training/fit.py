"""Train a run: check the arguments, then train its parts (the folds and the refit)."""

import os
import shlex
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from maskfold.cache_folder import CacheFolder
from maskfold.config.experiment import Config, replaced
from maskfold.data.folds import split
from maskfold.data.images_table import Prepared
from maskfold.data.prepare import ensure_prepared
from maskfold.environment import check_compile, check_launch
from maskfold.errors import UserError
from maskfold.fileio import check_output, why_not_writable
from maskfold.loading.sampler import train_batch_sampler
from maskfold.loading.store import open_store
from maskfold.loading.transforms import train_transform
from maskfold.models.classifier import build_classifier
from maskfold.models.device import check_compiler, make_fast, pick_device, pick_precisions, threads_per_process
from maskfold.models.input_size import check_input_size
from maskfold.places import possible_places, recorded_path
from maskfold.runs.run_folder import FULL, NAME, RunFolder, fold_name, read_provenance, runs_root
from maskfold.runs.summary import write_summary
from maskfold.runs.wandb_logger import UNREACHED, offline_runs
from maskfold.time_left import TimeLeft
from maskfold.training.accelerators import process_state
from maskfold.training.fold_job import FoldJob, Part
from maskfold.training.fold_trainer import run_job
from maskfold.training.optim import make_optimizer
from maskfold.training.parallel_folds import fit_parallel
from maskfold.training.pseudo_labels import LABELS_FILE
from maskfold.training.pseudo_sources import check_pseudo
from maskfold.training.stop_request import StopRequest


def fit_run(
    config: Config,
    name: str,
    folds: list[int] | None = None,
    refit: bool = False,
    fresh: bool = False,
    parallel: int = 1,
    stop_after: float | None = None,
    out: Path | None = None,
    cache: CacheFolder | None = None,
) -> tuple[RunFolder, dict | None]:
    """Train the unfinished folds of a run; return its folder and its summary.

    folds: None for all. refit: also train one model on everybody. fresh: delete the run first. parallel: how many parts
    are trained at the same time, each in its own process. stop_after: seconds after which training saves and raises
    TimeIsUp. out: the run folder, by default `name` in runs_root(). cache: of --cache. Under torchrun every process
    calls this function; only the main process writes and gets the summary.

    Raises UserError if the run can't be started or resumed, before anything in its folder is changed.
    """
    deadline = None if stop_after is None else time.time() + stop_after
    if parallel > 1 and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("--parallel-folds: torchrun already trains each fold on all processes; use only one of them")
    check_launch()
    if config.run.compile:
        check_compile()
    if not NAME.fullmatch(name):
        raise UserError(f"--name {name!r}: a run name has only letters, digits and . _ + -; give another --name")
    if refit and config.optim.schedule == "plateau":
        raise UserError(
            "--refit: nobody is left to validate on, but optim.schedule plateau needs a score; choose another schedule"
        )
    if refit and config.run.keep == "soup":
        raise UserError("--refit: nobody is left to validate on, but run.keep soup needs a score; use run.keep mean")
    run = RunFolder(runs_root() / name if out is None else out)
    device = pick_device(config.run)
    make_fast(device)
    if fresh or not run.started:
        # Find what can't be trained before anything is deleted or written.
        pick_precisions(config.run, device)
        _check_model(config)
        check_compiler(config.run, device)
    else:
        read_provenance(run.folder)
    processes = process_state(device)
    with processes.main_process_first():
        prepared = ensure_prepared(config.data, cache)
    folds = list(range(prepared.num_folds)) if folds is None else sorted(set(folds))
    if unknown := [fold for fold in folds if fold not in range(prepared.num_folds)]:
        path = prepared.folder / "folds.csv"
        raise UserError(f"--folds {unknown[0]}: there are folds 0 to {prepared.num_folds - 1} in {path}")
    parts = [Part(fold_name(fold), *split(prepared.images, prepared.folds, fold)) for fold in folds]
    if refit:
        all_rows = np.arange(len(prepared.images))
        parts.append(Part(FULL, all_rows, all_rows[:0]))
    # Building the samplers finds errors of every fold before the first one is trained.
    labels = prepared.images.label.to_numpy()
    updates = {p.name: config.optim.epochs * len(train_batch_sampler(config, p.train_rows, labels)) for p in parts}
    new_parts = [part.name for part in parts if fresh or not (run.part_dir(part.name) / LABELS_FILE).exists()]
    check_pseudo(run, config, prepared, new_parts)
    # Finished parts count too, so that a resumed run keeps its number of threads.
    num_processes = min(parallel, len(parts))
    is_finished = run.started and not fresh and all(run.finished(part.name) for part in parts)
    # A finished run may be on a read-only disk.
    writes = processes.is_main_process and not (is_finished and why_not_writable(run.folder))
    if writes:
        check_output(run.folder, "--out")
    with run.lock() if writes else nullcontext():
        if processes.is_main_process:
            threads = threads_per_process(num_processes) if num_processes > 1 else torch.get_num_threads()
            _start_or_check(run, config, prepared, device, fresh, threads)
        processes.wait_for_everyone()
        # From this call's config: keys that may change when a run is resumed (workers, device, W&B) take effect.
        config = resolve_config(config, run, prepared, device, run.config)
        for part in parts:
            if run.finished(part.name) and processes.is_main_process:
                print(f"{part.name}: already finished", file=sys.stderr)
        unfinished = [part for part in parts if not run.finished(part.name)]
        if unfinished:
            # A resumed run was not checked above, and may be on another machine now.
            check_compiler(config.run, device)
            with processes.main_process_first():
                store = open_store(prepared, prepared.images, config.data)
            (run.folder / UNREACHED).unlink(missing_ok=True)
            with StopRequest(deadline).listening() as stop:
                if num_processes > 1:
                    fit_parallel(run, config, prepared, unfinished, num_processes, stop, updates)
                else:
                    time_left = TimeLeft({part.name: updates[part.name] for part in unfinished})
                    for part in unfinished:
                        job = FoldJob(run, config, prepared, store, part, stop, time_left)
                        run_job(job, is_first=part is unfinished[0])
        if not processes.is_main_process:
            return run, None
        summary = write_summary(run, prepared)
        if offline := offline_runs(run.folder):
            print(f"W&B runs are kept offline; to upload them: wandb sync {shlex.join(offline)}", file=sys.stderr)
        return run, summary


def _check_model(config: Config) -> None:
    """Build augmentation, model and optimiser and predict blank photos. Raises UserError if one of them fails."""
    train_transform(config.data)
    model = build_classifier(config)
    make_optimizer(model, config.optim)
    check_input_size(model, config)


def _start_or_check(
    run: RunFolder, config: Config, prepared: Prepared, device: torch.device, fresh: bool, threads: int
) -> None:
    """Start a new run, or check that a started one has the same config and data."""
    if run.started and not fresh:
        run.check_same(resolve_config(config, run, prepared, device, run.config), prepared)
        # Runs of earlier versions have no record of their threads.
        if (before := run.provenance.get("threads", threads)) != threads and device.type == "cpu":
            print(
                f"warning: {run.folder} was started with {before} CPU threads and resumes with {threads}; the last "
                f"digits of its results may differ (set OMP_NUM_THREADS={before} for the same ones)",
                file=sys.stderr,
            )
    else:
        config = resolve_config(config, run, prepared, device)
        run.clear()
        run.start(config, prepared, threads)


def resolve_config(
    config: Config, run_folder: RunFolder, prepared: Prepared, device: torch.device, recorded: Config | None = None
) -> Config:
    """The config with the places of the data, the folds that exist, and precisions instead of auto.

    recorded: the resolved config of the run's first start, from which precisions that are auto are taken.
    """
    run = config.run
    if recorded is not None:
        auto_keys = [key for key in ("precision", "predict_precision") if getattr(run, key) == "auto"]
        run = run.model_copy(update={key: getattr(recorded.run, key) for key in auto_keys})
    precision, predict_precision = pick_precisions(run, device)
    seed, recorded_root = prepared.meta["fold_seed"], Path(prepared.meta["root"])
    roots = [config.data.root] if config.data.root else possible_places(recorded_root, prepared.folder)
    root = next((place for place in roots if place.is_dir()), recorded_root)
    return replaced(
        config,
        data={
            "root": recorded_path(root, run_folder.folder, prepared.folder),
            "prepared": recorded_path(prepared.folder, run_folder.folder),
            "folds": prepared.num_folds,
            # None if folds.csv was there before the data was prepared; its seed is then unknown.
            "fold_seed": config.data.fold_seed if seed is None else seed,
        },
        run={"precision": precision, "predict_precision": predict_precision},
    )
