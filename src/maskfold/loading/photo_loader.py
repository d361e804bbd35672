"""Data loader whose workers always end when it is closed, and whose errors name their cause."""

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from maskfold.loading.dataset import Batch, PhotoDataset
from maskfold.loading.loader_worker import (
    FEWER_WORKERS,
    WorkerDataset,
    WorkerException,
    identity_collate,
    init_worker,
)
from maskfold.loading.open_loaders import open_loaders
from maskfold.loading.sampler import PhotoBatchSampler
from maskfold.machine_limits import (
    SECONDS_TO_END,
    exhausted_resource,
    kill_child_processes,
    process_start_error,
    stop_signals_blocked,
)

# If torch fails to create an iterator, its clean-up reads attributes that are not set yet, and prints a traceback.
# These defaults prevent that.
_MultiProcessingDataLoaderIter._shutdown, _MultiProcessingDataLoaderIter._workers_done_event = True, threading.Event()
_MultiProcessingDataLoaderIter._workers = _MultiProcessingDataLoaderIter._index_queues = ()
# A killed process closes its sockets at most this many seconds before the system reports it as ended.
SECONDS_UNTIL_EXIT_IS_SEEN = 1


class PhotoLoader:
    """Yield one Batch per batch of the sampler, in the sampler's order.

    workers: number of worker processes that load batches; 0 loads them in this process. Workers run until close() is
    called or a `with` block ends. pin: whether images are copied to pinned memory. An exception in a worker is raised
    again in this process. Raises ResourceError if a worker was killed, or if the system has run out of file
    descriptors, shared memory or processes.
    """

    def __init__(self, dataset: PhotoDataset, batch_sampler: PhotoBatchSampler, workers: int, pin: bool):
        self.batch_sampler, self.workers = batch_sampler, workers
        # torch's iterator, which owns the workers; None while no workers run.
        self._iterator: Any = None
        # A forked process gets a copy of the loader. Closing the copy must not end the workers.
        self._owner = os.getpid()
        with _ignore_warnings():
            self._loader = DataLoader(
                WorkerDataset(dataset) if workers else dataset,
                batch_sampler=batch_sampler,
                num_workers=workers,
                collate_fn=identity_collate,
                pin_memory=pin,
                persistent_workers=workers > 0,
                worker_init_fn=init_worker,
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
        with self._raising_cause():
            open_loaders.check_workers()
            iterator = self._start()
        while True:
            with self._raising_cause(), open_loaders.waiting_for_batch():
                open_loaders.check_workers()
                batch = next(iterator, None)
            if batch is None:
                return
            if isinstance(batch, WorkerException):
                raise batch.exception
            images, labels, rows = batch
            yield Batch(images, torch.from_numpy(labels), torch.from_numpy(rows))

    @contextmanager
    def _raising_cause(self) -> Iterator[None]:
        """Replace torch's error with one that names the cause.

        torch raises the same error for a killed worker, full shared memory and too many open files.
        """
        try:
            yield
        except (RuntimeError, OSError, EOFError) as error:
            deadline = time.monotonic() + SECONDS_UNTIL_EXIT_IS_SEEN
            while time.monotonic() < deadline:
                open_loaders.check_workers()
                time.sleep(0.02)
            if (cause := exhausted_resource()) is not None:
                raise cause from error
            raise

    def _start(self) -> Iterator:
        """Start the workers, or only a new pass over the data if they are already running."""
        other_processes = set(multiprocessing.active_children())
        try:
            with stop_signals_blocked(), _ignore_warnings():
                self._iterator = iter(self._loader)
        except OSError as error:
            kill_child_processes(other_processes)
            raise process_start_error(error, "a loader process", FEWER_WORKERS) from error
        finally:
            # Replace torch's handler. When a worker dies, that handler raises an error at any point of the code, even
            # during an optimiser update.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGCHLD, open_loaders.on_child_exit)
        open_loaders.loaders.add(self)
        return self._iterator

    @property
    def worker_processes(self) -> Sequence[BaseProcess]:
        return () if self._iterator is None else self._iterator._workers

    def close(self) -> None:
        """End the workers at once; they have nothing to save. Iterating over the loader again starts new workers.

        The workers get SIGKILL, because torch's own shutdown would wait forever for a lock that a killed worker held.
        """
        iterator, self._iterator = self._iterator, None
        open_loaders.loaders.discard(self)
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
def _ignore_warnings() -> Iterator[None]:
    """Silence torch's warning about more workers than cores: the user chooses the number of workers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
