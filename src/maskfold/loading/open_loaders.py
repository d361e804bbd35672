"""The loaders of this process whose workers run: closed at exit, and an error as soon as one of their workers ends."""

import atexit
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Protocol

from maskfold.loading.loader_worker import exit_error


class LoaderWithWorkers(Protocol):
    """What OpenLoaders needs of a PhotoLoader."""

    @property
    def worker_processes(self) -> Sequence[BaseProcess]: ...

    def close(self) -> None: ...


class OpenLoaders:
    """The loaders of a process with running workers, and whether the process is waiting for one of their batches."""

    def __init__(self) -> None:
        self.loaders: weakref.WeakSet[LoaderWithWorkers] = weakref.WeakSet()
        self.is_waiting = False

    @contextmanager
    def waiting_for_batch(self) -> Iterator[None]:
        """Within the block a worker's death is raised at once; torch itself checks only every 5 s."""
        self.is_waiting = True
        try:
            yield
        finally:
            self.is_waiting = False

    def on_child_exit(self, _signal: int, _frame: object) -> None:
        """The handler of SIGCHLD."""
        if self.is_waiting:
            self.check_workers()

    def check_workers(self) -> None:
        """Raise where a worker of any open loader has ended: ResourceError if it was killed, else RuntimeError.

        Any loader, because the run would otherwise fail only when that loader is used next, perhaps an hour later.
        """
        for loader in list(self.loaders):
            for worker in loader.worker_processes:
                if not worker.is_alive():
                    raise exit_error(worker.pid or 0, worker.exitcode or 0)

    def close_all(self) -> None:
        """Close what was left open, as in a notebook: at exit Python would wait for the workers forever."""
        for loader in list(self.loaders):
            loader.close()


# One per process, as are its signal handlers and what it does at exit.
open_loaders = OpenLoaders()
atexit.register(open_loaders.close_all)
