"""Batches of a dataset, made here or by loader processes, which end with their loader whatever happens."""

import atexit
import multiprocessing
import os
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from maskfold.loading.dataset import Batch, PhotoDataset
from maskfold.loading.loader_worker import FEWER, Raised, Sender, as_it_is, begin_worker, fault_of
from maskfold.loading.sampler import Batches
from maskfold.machine_limits import (
    SECONDS_TO_END,
    cannot_start,
    end_children,
    exhausted,
    stop_signals_blocked,
)

# torch's own clean-up of an iterator whose making failed asks for what was never made, and prints a traceback.
_MultiProcessingDataLoaderIter._shutdown = True
# Loaders whose processes live, and whether a batch is being waited for.
_open: weakref.WeakSet["PhotoLoader"] = weakref.WeakSet()
_waits = False
SECONDS_TO_BE_SEEN = 1


@atexit.register
def _close_all() -> None:
    """Where nobody closed a loader, as in a notebook: Python would wait for its processes for ever."""
    for loader in list(_open):
        loader.close()


class PhotoLoader:
    """Batches (uint8 RGB [B, 3, H, W], labels int64 [B], rows int64 [B]) in the order of `batches`.

    With `workers` other processes make them. They live until close(), which whoever makes a loader must call (or use
    it in a `with`). What goes wrong in one of them is raised here, as itself; ResourceError where one died or the
    machine has run out of something.
    """

    def __init__(self, dataset: PhotoDataset, batches: Batches, workers: int, pin: bool):
        self.batch_sampler, self.workers = batches, workers
        # torch's iterator over the workers, None while there are none.
        self._iterator: Any = None
        # A forked process has a copy of it, and no say over its workers.
        self._owner = os.getpid()
        with _unwarned():
            self._loader = DataLoader(
                Sender(dataset) if workers else dataset,
                batch_sampler=batches,
                num_workers=workers,
                collate_fn=as_it_is,
                pin_memory=pin,
                persistent_workers=workers > 0,
                worker_init_fn=begin_worker,
            )

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __enter__(self) -> "PhotoLoader":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __del__(self):
        self.close()

    def __iter__(self) -> Iterator[Batch]:
        if not self.workers:
            yield from self._loader
            return
        with self._explained():
            self._check_workers()
            iterator = self._start()
        while True:
            with self._explained(), _waiting():
                self._check_workers()
                sent = next(iterator, None)
            if sent is None:
                return
            if isinstance(sent, Raised):
                raise sent.exception
            images, labels, rows = sent
            yield images, torch.from_numpy(labels), torch.from_numpy(rows)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Find the cause of what torch raises: it says the same of a dead worker, full memory and too many files."""
        try:
            yield
        except (RuntimeError, OSError, EOFError) as fault:
            # A killed process closes its sockets a moment before its end can be seen.
            deadline = time.monotonic() + SECONDS_TO_BE_SEEN
            while time.monotonic() < deadline:
                self._check_workers()
                time.sleep(0.02)
            if (cause := exhausted()) is not None:
                raise cause from fault
            raise

    def _start(self) -> Iterator:
        """Start the workers, or a new pass of those that were started."""
        others = set(multiprocessing.active_children())
        try:
            with stop_signals_blocked(), _unwarned():
                self._iterator = iter(self._loader)
        except OSError as fault:
            end_children(others)
            raise cannot_start(fault, "a loader process", FEWER) from fault
        finally:
            # torch's own handler raises in the midst of whatever runs when a worker dies, an update half applied.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGCHLD, _child_ended)
        _open.add(self)
        return self._iterator

    @staticmethod
    def _check_workers() -> None:
        """Raises where a worker of any open loader has ended: ResourceError if it was killed, else RuntimeError.

        Of any, since one whose turn comes in an hour would otherwise end the run in an hour.
        """
        for loader in list(_open):
            for worker in loader._iterator._workers:
                if not worker.is_alive():
                    raise fault_of(worker.pid, worker.exitcode)

    def close(self) -> None:
        """End the workers at once; they hold nothing that is to be saved. A loader that is used again starts others.

        By SIGKILL: a worker that was killed from outside may hold a lock for which torch's own way would wait for ever.
        """
        iterator, self._iterator = self._iterator, None
        _open.discard(self)
        if iterator is None or self._owner != os.getpid():
            return
        self._loader._iterator = None
        iterator._shutdown = True
        if iterator._worker_pids_set:
            signal_handling._remove_worker_pids(id(iterator))
            iterator._worker_pids_set = False
        for worker in iterator._workers:
            worker.kill()
        for worker in iterator._workers:
            worker.join(SECONDS_TO_END)
        queues = [*iterator._index_queues, iterator._worker_result_queue]
        if hasattr(iterator, "_pin_memory_thread"):
            iterator._pin_memory_thread_done_event.set()
            iterator._worker_result_queue.put((None, None))
            iterator._pin_memory_thread.join(SECONDS_TO_END)
        for queue in queues:
            queue.cancel_join_thread()
            queue.close()


@contextmanager
def _unwarned() -> Iterator[None]:
    """torch warns of more workers than cores; whoever asks for them gets them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


@contextmanager
def _waiting() -> Iterator[None]:
    """A worker's death is raised at once meanwhile; torch looks for it every 5 s."""
    global _waits
    _waits = True
    try:
        yield
    finally:
        _waits = False


def _child_ended(_signal, _frame) -> None:
    if _waits:
        PhotoLoader._check_workers()
