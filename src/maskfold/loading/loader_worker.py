"""Code that runs in the worker processes of a PhotoLoader, and the exceptions for workers that have died."""

import errno
import multiprocessing.queues
import os
import pickle
import signal
import sys
import traceback
from dataclasses import dataclass

from torch.utils.data import Dataset

from maskfold.errors import ResourceError
from maskfold.loading.dataset import PhotoDataset
from maskfold.loading.sampler import SampleKey
from maskfold.machine_limits import exhausted_resource, shared_memory_error, too_many_files_error

FEWER_WORKERS = "use fewer loader processes (--data.num_workers 0)"
# Exit statuses of a worker that could not send a batch.
EXIT_TOO_MANY_FILES, EXIT_NO_SHARED_MEMORY, EXIT_NOT_SENT = 71, 72, 73


def identity_collate(batch):
    return batch


@dataclass(frozen=True)
class WorkerException:
    """What a worker sends instead of a batch if the dataset raises an exception."""

    exception: Exception


class WorkerDataset(Dataset):
    """The dataset in a worker. It returns images as a tensor in shared memory, and labels and rows as arrays.

    Labels and rows are numpy arrays because each tensor sent to the main process needs a file descriptor. An exception
    is returned as a WorkerException.
    """

    def __init__(self, dataset: PhotoDataset):
        self.dataset = dataset

    def __getitems__(self, keys: list[SampleKey]):
        try:
            images, labels, rows = self.dataset.__getitems__(keys)
            return images, labels.numpy(), rows.numpy()
        except Exception as error:
            return WorkerException(_picklable(error))


def _picklable(error: Exception) -> Exception:
    """Return the exception with its traceback as a note.

    If the exception can't be pickled, return a RuntimeError whose message contains the traceback.
    """
    error.add_note("".join(traceback.format_exception(error)))
    error.__cause__ = error.__context__ = error.__traceback__ = None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("\n".join(error.__notes__))
    return error


def init_worker(_worker: int) -> None:
    """Make the worker exit if it can't send a batch.

    By default, Python would drop the batch, and the main process would wait for it forever.
    """
    # typeshed does not list this hook.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_exit_unsent)  # type: ignore[attr-defined]
    # The thread that passes file descriptors to the main process calls this hook after an error. By default, the thread
    # would then continue without the batch.
    sys.excepthook = _exit_if_too_many_files


def _exit_if_too_many_files(kind, error, trace) -> None:
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        os._exit(EXIT_TOO_MANY_FILES)
    sys.__excepthook__(kind, error, trace)


def _exit_unsent(error: Exception, _batch: object) -> None:
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        os._exit(EXIT_TOO_MANY_FILES)
    cause = exhausted_resource()
    if cause is None:
        traceback.print_exception(error)
    os._exit(EXIT_NOT_SENT if cause is None else EXIT_NO_SHARED_MEMORY)


def exit_error(pid: int, status: int) -> Exception:
    """Return the exception to raise for a worker that has died.

    pid: its process id. status: its exit status, -N if signal N ended it.
    """
    if status == EXIT_TOO_MANY_FILES:
        return too_many_files_error()
    if status == EXIT_NO_SHARED_MEMORY:
        return shared_memory_error()
    if status == -signal.SIGBUS:
        # The worker accessed a page of a memory map that has no storage: shared memory is full, or the store is shorter
        # than its header says.
        return exhausted_resource() or ResourceError(
            f"a loader process ({pid}) was killed by a bus error: /dev/shm was briefly full, or the store is damaged; "
            "make /dev/shm larger (docker run --shm-size 2g), or delete the store (in --cache, or in store/ of the "
            "prepared folder) to build it again"
        )
    if status < 0:
        return ResourceError(
            f"a loader process ({pid}) was killed by signal {-status} ({signal.Signals(-status).name}), most likely "
            f"because memory ran out; {FEWER_WORKERS}, and rerun the command to resume"
        )
    return RuntimeError(f"a loader process ({pid}) ended with exit status {status}; see its error message above")
