"""What a process uses of the machine besides memory: child processes, open files, shared memory, signals."""

import errno
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maskfold.errors import ResourceError

SHARED_MEMORY = Path("/dev/shm")
# As many must be left to call the limit of open files the cause: a library opens several at once.
SPARE_FILES = 8
SPARE_BYTES = 2**20
SECONDS_TO_END = 5
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def raise_file_limit() -> None:
    """Let this process open as many files as the system allows it; the usual limit of 1,024 is only a default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS refuses its own "unlimited".
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def exhausted_resource(nbytes: int = SPARE_BYTES) -> ResourceError | None:
    """What has run out, found by trying rather than from a message: open files, or shared memory for `nbytes`."""
    opened = []
    try:
        for _ in range(SPARE_FILES):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as fault:
        if fault.errno in (errno.EMFILE, errno.ENFILE):
            return too_many_files_error()
    finally:
        for descriptor in opened:
            os.close(descriptor)
    if SHARED_MEMORY.is_dir():
        stat = os.statvfs(SHARED_MEMORY)
        if stat.f_bavail * stat.f_frsize < max(nbytes, SPARE_BYTES):
            return shared_memory_error()
    return None


def too_many_files_error() -> ResourceError:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ResourceError(
        f"too many open files (the limit is {limit}); raise it with `ulimit -n 4096`, or use fewer loader processes "
        "(--data.num_workers 0)"
    )


def shared_memory_error() -> ResourceError:
    stat = os.statvfs(SHARED_MEMORY)
    size, free = (blocks * stat.f_frsize / 2**20 for blocks in (stat.f_blocks, stat.f_bavail))
    return ResourceError(
        f"{SHARED_MEMORY}: shared memory is full ({free:,.1f} of {size:,.1f} MiB are free), through which loader "
        "processes hand over their batches; make it larger (docker run --shm-size 2g, or mount -o remount,size=2g "
        f"{SHARED_MEMORY}), or use fewer of them (--data.num_workers 0)"
    )


def process_start_error(fault: OSError, what: str, fix: str) -> ResourceError:
    """The error for a process that the system refused to start."""
    if fault.errno in (errno.EMFILE, errno.ENFILE):
        return too_many_files_error()
    # Locks between processes are files in it too.
    if fault.errno == errno.ENOSPC and SHARED_MEMORY.is_dir():
        return shared_memory_error()
    return ResourceError(f"{what} can't be started ({fault.strerror}); {fix}, or raise `ulimit -u` and free memory")


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """For starting processes that must outlive Ctrl-C: they inherit the block; signals to this one are delivered after.

    A handler set by the child itself would come too late: its imports take seconds.
    """
    import multiprocessing
    from multiprocessing import resource_tracker

    if multiprocessing.get_start_method() != "fork":
        # Python starts it beside the first process, and unblocks the signals then.
        resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def kill_child_processes(before: set | frozenset = frozenset()) -> None:
    """Kill the processes that multiprocessing started, except those in `before`, and wait for their end.

    Loader processes ignore the SIGTERM by which Python would end them, and it would then wait for ever.
    """
    if "multiprocessing" not in sys.modules:
        return
    children = [child for child in sys.modules["multiprocessing"].active_children() if child not in before]
    for child in children:
        child.kill()
    for child in children:
        child.join(SECONDS_TO_END)
