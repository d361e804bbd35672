"""Resources of a process besides memory: cores, child processes, open files, shared memory, signals."""

import errno
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maskfold.errors import ResourceError

SHARED_MEMORY = Path("/dev/shm")
# If fewer file descriptors than this are free, an error is attributed to the limit of open files, because libraries
# open several files at once.
SPARE_FILES = 8
SPARE_BYTES = 2**20
SECONDS_TO_END = 5
# The path of a socket has at most 108 bytes on Linux and 104 on macOS, of which multiprocessing appends up to 36.
MAX_SOCKET_FOLDER_BYTES = 66
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def num_cores() -> int:
    """Number of cores that this process may use. On systems other than Linux it is the number of all cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def raise_file_limit() -> None:
    """Raise the soft limit of open files (often 1,024) to the hard limit of the system."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS reports "unlimited" as the hard limit and then refuses it.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def exhausted_resource(nbytes: int = SPARE_BYTES) -> ResourceError | None:
    """Return an error if file descriptors have run out, or if shared memory has no room for `nbytes`; otherwise None.

    The resources themselves are tested, because the text of another library's error is not reliable.
    """
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
        f"{SHARED_MEMORY}: shared memory is full ({free:,.1f} of {size:,.1f} MiB are free); loader processes pass "
        "their batches through it; make it larger (docker run --shm-size 2g, or mount -o remount,size=2g "
        f"{SHARED_MEMORY}), or use fewer loader processes (--data.num_workers 0)"
    )


def process_start_error(fault: OSError, what: str, fix: str) -> ResourceError:
    """Return the error for a process that the system refused to start. what: the process; fix: what the user can do."""
    if fault.errno in (errno.EMFILE, errno.ENFILE):
        return too_many_files_error()
    # The locks of multiprocessing are files in shared memory too.
    if fault.errno == errno.ENOSPC and SHARED_MEMORY.is_dir():
        return shared_memory_error()
    return ResourceError(f"{what} can't be started ({fault.strerror}); {fix}, or raise `ulimit -u` and free memory")


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Block the stop signals while child processes start, so that Ctrl-C does not end the children.

    Children inherit the signal mask. Signals that this process receives meanwhile are delivered at the end. A handler
    that the child sets itself would come too late, because the child's imports take seconds.
    """
    import multiprocessing
    from multiprocessing import resource_tracker

    _create_socket_folder()
    if multiprocessing.get_start_method() != "fork":
        # Otherwise Python starts the resource tracker with the first child process, and then unblocks the signals.
        resource_tracker.ensure_running()
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


def _create_socket_folder() -> None:
    """Create multiprocessing's temporary folder for sockets, so that child processes use it too.

    Otherwise each child would create its own folder, and leave it behind if the child is killed. The folder is in /tmp
    instead of TMPDIR if the paths of sockets in TMPDIR would be longer than the operating system allows.
    """
    from multiprocessing import util

    previous = tempfile.tempdir
    if len(os.fsencode(tempfile.gettempdir())) > MAX_SOCKET_FOLDER_BYTES and os.access("/tmp", os.W_OK):
        tempfile.tempdir = "/tmp"
    try:
        util.get_temp_dir()
    finally:
        tempfile.tempdir = previous


def kill_child_processes(keep: set | frozenset = frozenset()) -> None:
    """Kill the processes that multiprocessing started, except those in `keep`; wait a few seconds for each to end.

    Loader processes ignore the SIGTERM that Python sends them at exit, so Python would wait for them forever.
    """
    if "multiprocessing" not in sys.modules:
        return
    children = [child for child in sys.modules["multiprocessing"].active_children() if child not in keep]
    for child in children:
        child.kill()
    for child in children:
        child.join(SECONDS_TO_END)
