"""Train several parts of a run at the same time, each in a process with its share of the cores and GPUs."""

import contextlib
import errno
import multiprocessing
import multiprocessing.queues
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from maskfold import fileio, progress
from maskfold.config.experiment import Config
from maskfold.data.images_table import Prepared
from maskfold.errors import TimeIsUp, UserError
from maskfold.loading.store import open_store
from maskfold.machine_limits import (
    STOP_SIGNALS,
    kill_child_processes,
    process_start_error,
    stop_signals_blocked,
    too_many_files_error,
)
from maskfold.models.device import make_fast, pick_device, threads_per_process
from maskfold.runs.run_folder import RunFolder
from maskfold.safe_streams import make_streams_safe
from maskfold.time_left import TimeLeft
from maskfold.training.fold_job import FoldJob, Part
from maskfold.training.fold_trainer import run_job
from maskfold.training.stop_request import StopRequest


@dataclass(frozen=True)
class _Slot:
    """A process's place among `slots` that run at the same time. start_method: of its own loader processes."""

    number: int
    slots: int
    threads: int
    start_method: str

    def apply(self) -> None:
        """Restrict this process to its share of the cores and to one GPU."""
        # The parent's start method. This process was spawned, but spawned loader processes would start more slowly.
        multiprocessing.set_start_method(self.start_method, force=True)
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, cores[self.number :: self.slots] or [cores[self.number % len(cores)]])
        torch.set_num_threads(self.threads)
        if count := torch.cuda.device_count():
            torch.cuda.set_device(self.number % count)


@dataclass(frozen=True)
class _Task:
    """What a child process trains; it can be pickled. messages: where it puts the text of a UserError."""

    run_folder: Path
    config: Config
    prepared: Prepared
    part: Part
    slot: _Slot
    messages: multiprocessing.queues.SimpleQueue
    deadline: float | None
    time_left: TimeLeft
    has_locks: bool


def fit_parallel(
    run: RunFolder,
    config: Config,
    prepared: Prepared,
    parts: Sequence[Part],
    slots: int,
    stop: StopRequest,
    updates: Mapping[str, int],
) -> None:
    """Train each part in a process of its own, up to `slots` at the same time.

    A signal is passed on to the children; each saves and ends. updates: part -> its number of optimiser updates, for
    the estimate of the time left. Raises UserError where a child raised one or was killed, after the others have saved.
    """
    spawn, waiting, free_slots = multiprocessing.get_context("spawn"), list(parts), list(range(slots))
    running: dict[BaseProcess, tuple[Part, int]] = {}
    is_stopping, failed = False, []
    threads, method, has_locks = threads_per_process(slots), multiprocessing.get_start_method(), fileio.locks_enabled
    try:
        messages = spawn.SimpleQueue()
        # The children check the deadline themselves. The first part starts even if it has passed, for one update.
        while running or (waiting and not is_stopping and not (stop.time_is_up and len(waiting) < len(parts))):
            while waiting and free_slots and not is_stopping and not (stop.time_is_up and len(waiting) < len(parts)):
                part, number = waiting.pop(0), free_slots.pop(0)
                time_left = TimeLeft({other.name: updates[other.name] for other in (part, *waiting)}, slots)
                slot = _Slot(number, slots, threads, method)
                task = _Task(run.folder, config, prepared, part, slot, messages, stop.deadline, time_left, has_locks)
                process: BaseProcess = spawn.Process(target=_run_child, args=(task,), name=part.name)
                # Ctrl-C reaches the whole process group, children that still import too; the parent passes it on once.
                with stop_signals_blocked():
                    process.start()
                running[process] = part, number
            wait([process.sentinel for process in running], timeout=0.2)
            for process in [process for process in running if process.exitcode is not None]:
                part, number = running.pop(process)
                free_slots.append(number)
                if process.exitcode:
                    failed.append((part, process.exitcode))
            if (stop.signum or failed) and not is_stopping:
                is_stopping = True
                for process in running:
                    _send_signal(process, stop.signum or signal.SIGTERM)
    except OSError as error:
        raise process_start_error(
            error, "a training process", "train fewer folds at once (--parallel-folds)"
        ) from error
    finally:
        for process in running:
            process.kill()
    if failed and not stop.signum:
        raise _child_error(*failed[0], None if messages.empty() else messages.get())
    if not all(run.finished(part.name) for part in parts):
        stop.raise_if_requested()


def _send_signal(process: BaseProcess, signum: int) -> None:
    # The process may have just ended.
    with contextlib.suppress(ProcessLookupError):
        if process.pid is not None:
            os.kill(process.pid, signum)


def _child_error(part: Part, status: int, message: str | None) -> BaseException:
    """The exception to raise for a child with a nonzero exit status; message: of its UserError."""
    if message is not None:
        return UserError(message)
    if status < 0:
        return UserError(
            f"--parallel-folds: {part.name} was killed by signal {-status}, most likely because memory ran out; rerun "
            "the command with fewer folds at once to resume"
        )
    print(f"{part.name} ended with status {status}; its own message is above", file=sys.stderr)
    return SystemExit(1)


def _run_child(task: _Task) -> None:
    """Train a part in this process, which ends with its parent."""
    # A session of its own: signals then come from the parent only.
    os.setsid()
    make_streams_safe()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    progress.bars_enabled = False
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    with _exit_status(task.messages), StopRequest(task.deadline).listening() as stop:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        task.slot.apply()
        # Only for a signal. A deadline still allows one update, or a limit shorter than the start would never get on.
        if stop.signum:
            stop.raise_if_requested()
        make_fast(pick_device(task.config.run))
        fileio.enable_locks(task.has_locks)
        store = open_store(task.prepared, task.prepared.images, task.config.data)
        run = RunFolder(task.run_folder)
        run_job(FoldJob(run, task.config, task.prepared, store, task.part, stop, task.time_left))


@contextmanager
def _exit_status(messages: multiprocessing.queues.SimpleQueue) -> Iterator[None]:
    """Exit with the status of an exception and send the text of a UserError to the parent; end child processes."""
    try:
        yield
    except UserError as error:
        messages.put(str(error))
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        messages.put(str(too_many_files_error()))
        sys.exit(2)
    except TimeIsUp:
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        kill_child_processes()


def _end_with_parent() -> None:
    """Wait for the parent's end, then terminate this process."""
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
