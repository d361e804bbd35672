"""Track the loaders with running workers, to close them at exit and to raise an error when a worker dies."""

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
    """The loaders with running workers in this process. is_waiting: whether the process is waiting for a batch."""

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
        """Handle SIGCHLD, which reports that a child process has ended."""
        if self.is_waiting:
            self.check_workers()

    def check_workers(self) -> None:
        """Raise an error if a worker of any open loader has died.

        Raises ResourceError if the worker was killed or a resource ran out, else RuntimeError. If only the current
        loader were checked, the run would fail at the next use of the dead worker's loader, perhaps an hour later.
        """
        for loader in list(self.loaders):
            for worker in loader.worker_processes:
                if not worker.is_alive():
                    raise exit_error(worker.pid or 0, worker.exitcode or 0)

    def close_all(self) -> None:
        """Close the loaders that were left open, for example in a notebook.

        Otherwise Python would wait for their workers forever.
        """
        for loader in list(self.loaders):
            loader.close()


# There is one object per process, because a process has one SIGCHLD handler.
open_loaders = OpenLoaders()
atexit.register(open_loaders.close_all)
