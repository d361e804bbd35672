"""Batches of a dataset, made here or by loader processes, which end with their loader whatever happens."""

import errno
import multiprocessing
import multiprocessing.queues
import os
import pickle
import signal
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from maskfold.data.dataset import Batch, PhotoDataset
from maskfold.data.sampling import Batches, Key
from maskfold.errors import ResourceError
from maskfold.resources import (
    SECONDS_TO_END,
    cannot_start,
    end_children,
    exhausted,
    shared_memory_full,
    stop_signals_blocked,
    too_many_files,
)

FEWER = "use fewer loader processes (--data.num_workers 0)"
# Exit statuses of a loader process that could not hand over a batch.
NO_FILES, NO_SHARED_MEMORY, NOT_HANDED_OVER = 71, 72, 73
# torch's own clean-up of an iterator whose making failed asks for what was never made, and prints a traceback.
_MultiProcessingDataLoaderIter._shutdown = True
# Loaders whose processes live, and whether a batch is being waited for.
_open: set["PhotoLoader"] = set()
_waits = False


class PhotoLoader:
    """Batches (uint8 RGB [B, 3, H, W], labels int64 [B], rows int64 [B]) in the order of `batches`.

    With `workers` other processes make them. They live until close(), which whoever makes a loader must call (or use
    it in a `with`). What goes wrong in one of them is raised here, as itself; ResourceError where one died or the
    machine has run out of something.
    """

    def __init__(self, dataset: PhotoDataset, batches: Batches, workers: int, pin: bool):
        self.batch_sampler, self.workers = batches, workers
        with _unwarned():
            self._loader = DataLoader(
                _Sender(dataset) if workers else dataset,
                batch_sampler=batches,
                num_workers=workers,
                collate_fn=_as_it_is,
                pin_memory=pin,
                persistent_workers=workers > 0,
                worker_init_fn=_begin_worker,
            )
        self._iterator = None

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __enter__(self) -> "PhotoLoader":
        return self

    def __exit__(self, *_exception: object) -> None:
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
            if isinstance(sent, _Raised):
                raise sent.exception
            images, labels, rows = sent
            yield images, torch.from_numpy(labels), torch.from_numpy(rows)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Find the cause of what torch raises: it says the same of a dead worker, full memory and too many files."""
        try:
            yield
        except (RuntimeError, OSError) as fault:
            self._check_workers()
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
        for loader in _open:
            for worker in loader._iterator._workers:
                if not worker.is_alive():
                    raise _fault_of(worker.pid, worker.exitcode)

    def close(self) -> None:
        """End the workers at once; they hold nothing that is to be saved. A loader that is used again starts others.

        By SIGKILL: a worker that was killed from outside may hold a lock for which torch's own way would wait for ever.
        """
        iterator, self._iterator = self._iterator, None
        _open.discard(self)
        if iterator is None:
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


def _as_it_is(batch):
    return batch


@dataclass(frozen=True)
class _Raised:
    """What a worker sends instead of a batch."""

    exception: Exception


class _Sender(Dataset):
    """The dataset as a worker asks it: images in shared memory, labels and rows as arrays, an exception as an object.

    Only the images' tensor takes shared memory and a file descriptor; torch would take one for each tensor.
    """

    def __init__(self, dataset: PhotoDataset):
        self.dataset = dataset

    def __getitems__(self, keys: list[Key]):
        try:
            images, labels, rows = self.dataset.__getitems__(keys)
            return images, labels.numpy(), rows.numpy()
        except Exception as fault:
            return _Raised(_sendable(fault))


def _sendable(fault: Exception) -> Exception:
    """The exception as it can be pickled, with its traceback as a note."""
    fault.add_note("".join(traceback.format_exception(fault)))
    fault.__cause__ = fault.__context__ = fault.__traceback__ = None
    try:
        pickle.loads(pickle.dumps(fault))
    except Exception:
        return RuntimeError("\n".join(fault.__notes__))
    return fault


def _begin_worker(_worker: int) -> None:
    """A batch that can't be pickled for its way is dropped by Python, and would be waited for in vain: end instead."""
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)


def _end_worker(fault: Exception, _batch: object) -> None:
    if isinstance(fault, OSError) and fault.errno in (errno.EMFILE, errno.ENFILE):
        os._exit(NO_FILES)
    cause = exhausted()
    if cause is None:
        traceback.print_exception(fault)
    os._exit(NOT_HANDED_OVER if cause is None else NO_SHARED_MEMORY)


def _fault_of(pid: int, status: int) -> Exception:
    """The exception for a worker that ended with a status, negative where a signal ended it."""
    if status == NO_FILES:
        return too_many_files()
    if status == NO_SHARED_MEMORY:
        return shared_memory_full()
    if status == -signal.SIGBUS:
        # Touching memory that is not there: of /dev/shm, or of a store that is shorter than its header says.
        return exhausted() or ResourceError(
            f"a loader process ({pid}) was killed by a bus error: /dev/shm was full for a moment, or the store is "
            "damaged; make /dev/shm larger (docker run --shm-size 2g), or delete the prepared folder's store/"
        )
    if status < 0:
        return ResourceError(
            f"a loader process ({pid}) was killed by signal {-status} ({signal.Signals(-status).name}), most likely "
            f"for want of memory; {FEWER}, and rerun the command to resume"
        )
    return RuntimeError(f"a loader process ({pid}) ended with status {status}; its own message is above")
