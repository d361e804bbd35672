"""A process that trains one part: its share of the machine, its exit status and its errors."""

import errno
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

import torch

from maskfold.errors import TimeIsUp, UserError
from maskfold.machine_limits import STOP_SIGNALS, kill_child_processes, too_many_files_error
from maskfold.models.device import configure_process, pick_device
from maskfold.safe_streams import make_streams_safe
from maskfold.training.fold_job import FoldJob
from maskfold.training.fold_trainer import run_job


@dataclass(frozen=True)
class Slot:
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


def run_child(job: FoldJob, slot: Slot, errors: Connection) -> None:
    """Train a part in this process, which ends with its parent. errors: where it sends its UserError."""
    # A session of its own: signals then come from the parent only.
    os.setsid()
    make_streams_safe()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    with _exit_status(errors), job.context.stop.listening() as stop:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        slot.apply()
        # Only for a signal. A deadline still allows one update, or a limit shorter than the start would never get on.
        if stop.signum:
            stop.raise_if_requested()
        configure_process(pick_device(job.context.config.run))
        run_job(job)


@contextmanager
def _exit_status(errors: Connection) -> Iterator[None]:
    """Exit with the status of an exception and send a UserError to the parent; end child processes."""
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
    """Wait for the parent's end, then terminate this process."""
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
