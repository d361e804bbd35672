"""Several parts of a run at once, each in a process with its share of the cores and GPUs."""

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

from maskfold import progress
from maskfold.config.experiment import Config
from maskfold.data.images_table import Prepared, load_prepared
from maskfold.errors import TimeIsUp, UserError
from maskfold.loading.store import open_store
from maskfold.machine_limits import STOP_SIGNALS, cannot_start, end_children, stop_signals_blocked, too_many_files
from maskfold.models.device import make_fast, pick_device, threads_each
from maskfold.runs.run_folder import RunFolder
from maskfold.safe_streams import make_streams_safe
from maskfold.time_left import TimeLeft
from maskfold.training.fold_job import FoldJob, Part
from maskfold.training.fold_trainer import run_job
from maskfold.training.stopping import Stop


@dataclass(frozen=True)
class _Slot:
    """The place of one process among `slots` that run at once, and how its own processes start."""

    number: int
    slots: int
    threads: int
    start_method: str

    def settle(self) -> None:
        """Take this process' share of the cores and, in turn, one of the GPUs."""
        # As the parent's: this process was spawned, and spawned loader processes would import everything anew.
        multiprocessing.set_start_method(self.start_method, force=True)
        if hasattr(os, "sched_setaffinity"):
            mine = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, mine[self.number :: self.slots] or [mine[self.number % len(mine)]])
        torch.set_num_threads(self.threads)
        if count := torch.cuda.device_count():
            torch.cuda.set_device(self.number % count)


@dataclass(frozen=True)
class _Order:
    """What a process is to train, as it can be pickled; what the user is to fix goes into `messages`."""

    run_folder: Path
    config: Config
    prepared_folder: Path
    part: Part
    slot: _Slot
    messages: multiprocessing.queues.SimpleQueue
    deadline: float | None
    left: TimeLeft


def fit_at_once(
    run: RunFolder,
    config: Config,
    prepared: Prepared,
    parts: Sequence[Part],
    slots: int,
    stop: Stop,
    updates: Mapping[str, int],
) -> None:
    """Train parts in processes of their own, up to `slots` at a time. A signal is passed on: each saves and ends.

    updates: part -> optimiser updates it takes, for the estimate of the time left.
    Raises UserError for what one of them was refused, or was killed by; the others then save and end too.
    """
    spawn, waiting, free = multiprocessing.get_context("spawn"), list(parts), list(range(slots))
    going: dict[BaseProcess, tuple[Part, int]] = {}
    passed_on, failed = False, []
    threads, method = threads_each(slots), multiprocessing.get_start_method()
    try:
        messages = spawn.SimpleQueue()
        # The children know the deadline themselves; the first one makes an update even if it has passed.
        while going or (waiting and not passed_on and not (stop.time_is_up and len(waiting) < len(parts))):
            while waiting and free and not passed_on and not (stop.time_is_up and len(waiting) < len(parts)):
                part, slot = waiting.pop(0), free.pop(0)
                left = TimeLeft({each.name: updates[each.name] for each in (part, *waiting)}, slots)
                place = _Slot(slot, slots, threads, method)
                order = _Order(run.folder, config, prepared.folder, part, place, messages, stop.deadline, left)
                process: BaseProcess = spawn.Process(target=_child, args=(order,), name=part.name)
                # Ctrl-C reaches the whole group while the child imports: the parent passes it on, once.
                with stop_signals_blocked():
                    process.start()
                going[process] = part, slot
            wait([process.sentinel for process in going], timeout=0.2)
            for process in [process for process in going if process.exitcode is not None]:
                part, slot = going.pop(process)
                free.append(slot)
                if process.exitcode:
                    failed.append((part, process.exitcode))
            if (stop.signum or failed) and not passed_on:
                passed_on = True
                for process in going:
                    _tell(process, stop.signum or signal.SIGTERM)
    except OSError as fault:
        raise cannot_start(fault, "a training process", "train fewer folds at once (--parallel-folds)") from fault
    finally:
        for process in going:
            process.kill()
    if failed and not stop.signum:
        raise _fault(*failed[0], None if messages.empty() else messages.get())
    if not all(run.finished(part.name) for part in parts):
        stop.raise_reason()


def _tell(process: BaseProcess, signum: int) -> None:
    # It may have ended just now.
    with contextlib.suppress(ProcessLookupError):
        if process.pid is not None:
            os.kill(process.pid, signum)


def _fault(part: Part, status: int, message: str | None) -> BaseException:
    if message is not None:
        return UserError(message)
    if status < 0:
        return UserError(
            f"--parallel-folds: {part.name} was killed by signal {-status}, most likely for want of memory; the same "
            "command with fewer folds at once goes on"
        )
    print(f"{part.name} ended with status {status}; its own message is above", file=sys.stderr)
    return SystemExit(1)


def _child(order: _Order) -> None:
    """A part in a process of its own, which ends with its parent."""
    # Signals come from the parent alone.
    os.setsid()
    make_streams_safe()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    progress.bars = False
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    with _ended(order.messages), Stop(order.deadline).listening() as stop:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        order.slot.settle()
        # A time that is up lets the first update be made: a start that takes longer than it would never get on.
        if stop.signum:
            stop.raise_reason()
        make_fast(pick_device(order.config.run))
        prepared = load_prepared(order.prepared_folder)
        store = open_store(prepared, prepared.images, order.config.data)
        run = RunFolder(order.run_folder)
        run_job(FoldJob(run, order.config, prepared, store, order.part, stop, order.left))


@contextmanager
def _ended(messages: multiprocessing.queues.SimpleQueue) -> Iterator[None]:
    """Hand a user's mistake to the parent rather than to the terminal; end the processes that were started."""
    try:
        yield
    except UserError as fault:
        messages.put(str(fault))
        sys.exit(2)
    except OSError as fault:
        if fault.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        messages.put(str(too_many_files()))
        sys.exit(2)
    except TimeIsUp:
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        end_children()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
