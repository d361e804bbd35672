"""Track the loaders with running workers: close them at exit, and raise an error as soon as one of the workers ends."""

import atexit
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Protocol

from maskfold.loading.loader_worker import exit_error


class LoaderWithWorkers(Protocol):
    """The part of PhotoLoader that OpenLoaders uses."""

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
        """Within the block, raise an error as soon as a worker dies; torch itself checks only every 5 s."""
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
        """Raise an error if a worker of any open loader has ended: ResourceError if it was killed, else RuntimeError.

        All loaders are checked, because the run would otherwise fail only when the loader of the dead worker is used
        next, perhaps an hour later.
        """
        for loader in list(self.loaders):
            for worker in loader.worker_processes:
                if not worker.is_alive():
                    raise exit_error(worker.pid or 0, worker.exitcode or 0)

    def close_all(self) -> None:
        """Close loaders that were left open, for example in a notebook: Python would wait for their workers forever."""
        for loader in list(self.loaders):
            loader.close()


# A process has one such object, because it has one SIGCHLD handler.
open_loaders = OpenLoaders()
atexit.register(open_loaders.close_all)
