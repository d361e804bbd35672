"""What runs in a loader process: its batches on their way to the main process, and its end where it cannot send one."""

import errno
import multiprocessing.queues
import os
import pickle
import signal
import traceback
from dataclasses import dataclass

from torch.utils.data import Dataset

from maskfold.errors import ResourceError
from maskfold.loading.dataset import PhotoDataset
from maskfold.loading.sampler import Key
from maskfold.machine_limits import exhausted, shared_memory_full, too_many_files

FEWER = "use fewer loader processes (--data.num_workers 0)"
# Exit statuses of a loader process that could not hand over a batch.
NO_FILES, NO_SHARED_MEMORY, NOT_HANDED_OVER = 71, 72, 73


def as_it_is(batch):
    return batch


@dataclass(frozen=True)
class Raised:
    """What a worker sends instead of a batch."""

    exception: Exception


class Sender(Dataset):
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
            return Raised(_sendable(fault))


def _sendable(fault: Exception) -> Exception:
    """The exception as it can be pickled, with its traceback as a note."""
    fault.add_note("".join(traceback.format_exception(fault)))
    fault.__cause__ = fault.__context__ = fault.__traceback__ = None
    try:
        pickle.loads(pickle.dumps(fault))
    except Exception:
        return RuntimeError("\n".join(fault.__notes__))
    return fault


def begin_worker(_worker: int) -> None:
    """A batch that can't be pickled for its way is dropped by Python, and would be waited for in vain: end instead."""
    # A hook that typeshed does not list.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]


def _end_worker(fault: Exception, _batch: object) -> None:
    if isinstance(fault, OSError) and fault.errno in (errno.EMFILE, errno.ENFILE):
        os._exit(NO_FILES)
    cause = exhausted()
    if cause is None:
        traceback.print_exception(fault)
    os._exit(NOT_HANDED_OVER if cause is None else NO_SHARED_MEMORY)


def fault_of(pid: int, status: int) -> Exception:
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
