"""Train several parts of a run at the same time, each in its own process with a share of the cores and one GPU."""

import contextlib
import errno
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from maskfold import locks
from maskfold.errors import TimeIsUp, UserError
from maskfold.machine_limits import (
    STOP_SIGNALS,
    kill_child_processes,
    process_start_error,
    stop_signals_blocked,
    too_many_files_error,
)
from maskfold.models.device import configure_process, pick_device, threads_per_process
from maskfold.safe_streams import make_streams_safe
from maskfold.time_left import TimeLeft
from maskfold.training.fold_job import FoldJob, Part, TrainContext
from maskfold.training.fold_trainer import run_job


@dataclass(frozen=True)
class _Slot:
    """The number of a training process, 0 to slots - 1, and the settings that the process gets from its parent.

    slots: the largest number of processes that run at once. threads: CPU threads of the process. start_method: how the
    process starts its data loader processes. has_locks: False after --no-lock.
    """

    number: int
    slots: int
    threads: int
    start_method: str
    has_locks: bool

    def apply(self) -> None:
        """Apply the settings, and restrict this process to its share of the cores and to one GPU."""
        locks.enable_locks(self.has_locks)
        # Use the parent's start method. This process was spawned, but spawned loader processes would start more slowly.
        multiprocessing.set_start_method(self.start_method, force=True)
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, cores[self.number :: self.slots] or [cores[self.number % len(cores)]])
        torch.set_num_threads(self.threads)
        if count := torch.cuda.device_count():
            torch.cuda.set_device(self.number % count)


@dataclass(eq=False)
class _Child:
    """A child process that trains a part. errors: the pipe through which it sends its UserError, if it raises one."""

    part: Part
    slot_number: int
    process: BaseProcess
    errors: Connection
    error: UserError | None = None

    def receive_error(self) -> None:
        """Read the error if the child has sent one. Call this while the child runs, as a full pipe blocks the child."""
        if not self.errors.closed and self.errors.poll():
            # recv raises EOFError if the child has ended without an error.
            with contextlib.suppress(EOFError):
                self.error = self.errors.recv()
            self.errors.close()


def fit_parallel(context: TrainContext, parts: Sequence[Part], updates: Mapping[str, int], slots: int) -> None:
    """Train each part in a process of its own, up to `slots` at the same time.

    A signal is passed on to the children, which save a checkpoint and end. If a child fails, the other children save
    and end too. Then UserError is raised here if the failed child raised it or was killed, otherwise SystemExit is
    raised. updates: {part: number of its optimiser updates}, for the estimate of the time left.
    """
    stop, run = context.stop, context.run
    spawn, waiting, free_slots = multiprocessing.get_context("spawn"), list(parts), list(range(slots))
    running: list[_Child] = []
    failed: list[_Child] = []
    is_stopping = False
    threads, method, has_locks = threads_per_process(slots), multiprocessing.get_start_method(), locks.locks_enabled
    try:
        # The children check the deadline themselves. The first part starts even after the deadline, for one update.
        while running or (waiting and not is_stopping and not (stop.time_is_up and stop.has_trained)):
            while waiting and free_slots and not is_stopping and not (stop.time_is_up and stop.has_trained):
                part, number = waiting.pop(0), free_slots.pop(0)
                time_left = TimeLeft({other.name: updates[other.name] for other in (part, *waiting)}, slots)
                job, slot = FoldJob(context, part, time_left), _Slot(number, slots, threads, method, has_locks)
                receiver, sender = spawn.Pipe(duplex=False)
                process: BaseProcess = spawn.Process(target=_run_child, args=(job, slot, sender), name=part.name)
                # Ctrl-C would also end children that are still importing modules. So children start with the stop
                # signals blocked, and the parent passes a signal on.
                with stop_signals_blocked():
                    process.start()
                stop.has_trained = True
                # Only the child may hold the sender, so that the pipe is closed when the child ends.
                sender.close()
                running.append(_Child(part, number, process, receiver))
            wait([child.process.sentinel for child in running], timeout=0.2)
            ended = [child for child in running if child.process.exitcode is not None]
            for child in running:
                child.receive_error()
            running = [child for child in running if child not in ended]
            free_slots += [child.slot_number for child in ended]
            failed += [child for child in ended if child.process.exitcode]
            if (stop.signum or failed) and not is_stopping:
                is_stopping = True
                for child in running:
                    _send_signal(child.process, stop.signum or signal.SIGTERM)
    except OSError as error:
        raise process_start_error(
            error, "a training process", "train fewer folds at once (--parallel-folds)"
        ) from error
    finally:
        for child in running:
            child.process.kill()
    if failed and not stop.signum:
        raise _child_error(failed[0])
    if not all(run.finished(part.name) for part in parts):
        stop.raise_if_requested()


def _send_signal(process: BaseProcess, signum: int) -> None:
    # The process may have just ended.
    with contextlib.suppress(ProcessLookupError):
        if process.pid is not None:
            os.kill(process.pid, signum)


def _child_error(child: _Child) -> BaseException:
    """The exception to raise for a child with a nonzero exit status: its own UserError if it sent one."""
    if child.error is not None:
        return child.error
    name, status = child.part.name, child.process.exitcode or 0
    if status < 0:
        return UserError(
            f"--parallel-folds: {name} was killed by signal {-status}, most likely because memory ran out; rerun the "
            "command with fewer folds at once to resume"
        )
    print(f"{name} ended with exit status {status}; see its error message above", file=sys.stderr)
    return SystemExit(1)


def _run_child(job: FoldJob, slot: _Slot, errors: Connection) -> None:
    """Train a part in this child process, which ends when its parent ends. errors: the pipe for its UserError."""
    # Leave the parent's process group, so that Ctrl-C reaches only the parent, which passes it on.
    os.setsid()
    make_streams_safe()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    with _exit_status(errors), job.context.stop.listening() as stop:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        slot.apply()
        # Stop here only after a signal. After the deadline, one update is still made, so that a short time limit allows
        # progress.
        if stop.signum:
            stop.raise_if_requested()
        configure_process(pick_device(job.context.config.run))
        run_job(job)


@contextmanager
def _exit_status(errors: Connection) -> Iterator[None]:
    """Turn exceptions into exit statuses, send a UserError to the parent, and end this process's own children."""
    try:
        yield
    except UserError as error:
        errors.send(error)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        errors.send(too_many_files_error())
        sys.exit(2)
    except TimeIsUp:
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        kill_child_processes()


def _end_with_parent() -> None:
    """Wait until the parent has ended, then terminate this process."""
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
