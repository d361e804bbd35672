"""Train a run, or one run per seed: check the arguments, then train the parts (folds and refit)."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch

from maskfold.config.experiment import Config, replaced
from maskfold.data.images_table import Prepared
from maskfold.data.prepared_folder import ensure_prepared
from maskfold.fileio import check_output, why_not_writable
from maskfold.loading.sampler import train_batch_sampler
from maskfold.loading.store import open_store
from maskfold.loading.transforms import make_train_transform
from maskfold.models.classifier import build_classifier
from maskfold.models.device import check_compiler, configure_process, pick_device, pick_precisions, threads_per_process
from maskfold.models.input_size import check_input_size
from maskfold.progress import report
from maskfold.runs.resolved_config import resolve_config
from maskfold.runs.run_deletion import delete_run
from maskfold.runs.run_folder import RunFolder, read_provenance, runs_root
from maskfold.runs.summary import write_summary
from maskfold.runs.wandb_logger import UNREACHED
from maskfold.time_left import TimeLeft
from maskfold.training.accelerators import process_state
from maskfold.training.accum_steps import resolve_accum_steps
from maskfold.training.fold_job import (
    FoldJob,
    TrainContext,
    TrainRequest,
    check_request,
    print_finished,
    print_offline_runs,
    repeat_configs,
    requested_parts,
    requested_run,
)
from maskfold.training.fold_trainer import run_job
from maskfold.training.optim import make_optimizer
from maskfold.training.parallel_folds import fit_parallel
from maskfold.training.pseudo_labels import LABELS_FILE
from maskfold.training.pseudo_sources import check_pseudo


def fit_run(config: Config, name: str, request: TrainRequest | None = None) -> tuple[RunFolder, dict | None]:
    """Train the unfinished parts of a run; return its folder and its summary. By default all folds are trained.

    Under torchrun every process calls this function. Only the main process writes; the others get None as the summary.

    If the run can't be started or resumed, raises UserError before anything in its folder is changed.
    """
    request = request or TrainRequest()
    check_request(config, request)
    device = pick_device(config.run)
    configure_process(device)
    run = requested_run(name, request)
    if request.fresh or not run.started:
        # Before anything is deleted or written, check that training can start.
        pick_precisions(config.run, device)
        _check_model(config)
        check_compiler(config.run, device)
    else:
        read_provenance(run.folder)
    processes = process_state(device)
    with processes.main_process_first():
        prepared = ensure_prepared(config.data, request.cache)
    parts = requested_parts(prepared, request.folds, request.refit)
    # Build all samplers now, so that an error in any fold is found before the first fold is trained.
    labels = prepared.images.label.to_numpy()
    updates = {p.name: config.optim.epochs * len(train_batch_sampler(config, p.train_rows, labels)) for p in parts}
    new_parts = [part.name for part in parts if request.fresh or not (run.part_dir(part.name) / LABELS_FILE).exists()]
    check_pseudo(run, config, prepared, new_parts)
    # Finished parts count too, so that a resumed run keeps its number of threads.
    num_processes = min(request.parallel, len(parts))
    is_finished = run.started and not request.fresh and all(run.finished(part.name) for part in parts)
    # A finished run may be on a read-only disk.
    writes = processes.is_main_process and not (is_finished and why_not_writable(run.folder))
    if writes:
        check_output(run.folder, "--out")
    with run.lock() if writes else nullcontext():
        if processes.is_main_process:
            threads = threads_per_process(num_processes) if num_processes > 1 else torch.get_num_threads()
            # Check again, because another process may have started the run before this one got the lock.
            if request.fresh or not run.started:
                started_config = resolve_config(config, run.folder, prepared, device)
                started_config = resolve_accum_steps(started_config, device, num_processes)
                delete_run(run)
                run.start(started_config, prepared, threads)
            else:
                resumed_config = resolve_config(config, run.folder, prepared, device, run.config)
                _check_resumable(run, resumed_config, prepared, threads, device)
        processes.wait_for_everyone()
        # The recorded config is not used as it is: keys that may change on resume (workers, device) must take effect.
        resolved = resolve_config(config, run.folder, prepared, device, run.config)
        if processes.is_main_process:
            print_finished([part.name for part in parts if run.finished(part.name)])
        unfinished = [part for part in parts if not run.finished(part.name)]
        if unfinished:
            # The check above is skipped for a resumed run, which may now be on another machine.
            check_compiler(resolved.run, device)
            with processes.main_process_first():
                store = open_store(prepared, prepared.images, resolved.data)
            (run.folder / UNREACHED).unlink(missing_ok=True)
            with request.stop.listening() as stop:
                context = TrainContext(run, resolved, prepared, store, stop)
                updates_left = {part.name: updates[part.name] for part in unfinished}
                if num_processes > 1:
                    fit_parallel(context, unfinished, updates_left, num_processes)
                else:
                    time_left = TimeLeft(updates_left)
                    for part in unfinished:
                        run_job(FoldJob(context, part, time_left))
        if not processes.is_main_process:
            return run, None
        summary = write_summary(run, prepared)
        print_offline_runs(run)
        return run, summary


def fit_repeats(
    config: Config, name: str, seeds: Sequence[int], request: TrainRequest
) -> Iterator[tuple[RunFolder, dict | None]]:
    """Train one run per seed, NAME-s<seed>, one after another; yield what fit_run returns for each of them.

    A second call skips finished runs and resumes the unfinished one. Raises UserError as fit_run does. All started runs
    are checked before the first run is trained, so that a run that can't be resumed is reported at once.
    """
    configs = repeat_configs(config, name, seeds)
    check_request(config, request)
    device = pick_device(config.run)
    configure_process(device)
    processes = process_state(device)
    runs = [RunFolder(runs_root() / run_name) for run_name in configs]
    started = [run for run in runs if run.started and not request.fresh]
    if started:
        with processes.main_process_first():
            prepared = ensure_prepared(config.data, request.cache)
        for run in started:
            run.check_same(resolve_config(configs[run.name], run.folder, prepared, device, run.config), prepared)
    for number, (run_name, seeded) in enumerate(configs.items(), 1):
        report(f"run {number} of {len(seeds)}: {run_name}", processes.is_main_process)
        is_new = request.fresh or not runs[number - 1].started
        if started and is_new and config.optim.accum_steps == "auto":
            # Do not measure again, because repeats differ only in their seeds.
            seeded = replaced(seeded, optim={"accum_steps": started[0].config.optim.accum_steps})
        yield fit_run(seeded, run_name, request)
        started.append(runs[number - 1])


def _check_model(config: Config) -> None:
    """Build the augmentation, model and optimiser, and predict blank photos. Raises UserError if one of these fails."""
    make_train_transform(config.data)
    model = build_classifier(config)
    make_optimizer(model, config.optim)
    check_input_size(model, config)


def _check_resumable(run: RunFolder, config: Config, prepared: Prepared, threads: int, device: torch.device) -> None:
    """Check that a run was started with this config and data; on a CPU, warn if its number of threads was different."""
    run.check_same(config, prepared)
    # Runs of earlier versions have no record of their threads.
    if (before := run.provenance.get("threads", threads)) != threads and device.type == "cpu":
        print(
            f"warning: {run.folder} was started with {before} CPU threads and resumes with {threads}; the last digits "
            f"of its results may differ (set OMP_NUM_THREADS={before} to avoid this)",
            file=sys.stderr,
        )
