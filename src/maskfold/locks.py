"""Locks: one writer per folder, and no deletion of a file that is in use."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from maskfold.errors import LockedError, UserError
from maskfold.fileio import nearest_existing

# Locks that this process holds. A forked child inherits the open files and would keep their locks after this process
# has ended, so the child closes them.
_locks: set[TextIO] = set()
os.register_at_fork(after_in_child=lambda: [handle.close() for handle in _locks])
# False after --no-lock; this module then locks nothing.
locks_enabled = True


def enable_locks(enabled: bool) -> None:
    """Switch the locks of this process on, or off for --no-lock."""
    global locks_enabled
    locks_enabled = enabled


@contextmanager
def locked(folder: Path, busy: str | None = None) -> Iterator[None]:
    """Lock `folder` against other processes; the folder is created if it is missing.

    The lock is held until the `with` block ends or the process is killed. While another process holds the lock, this
    function waits if `busy` is None, and otherwise raises LockedError(busy). Raises UserError if the file system has no
    locks. After --no-lock, nothing is locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not locks_enabled:
        yield
        return
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise LockedError(busy) from None
        except OSError as error:
            raise _no_lock_error(folder, error) from None
        _locks.add(handle)
        try:
            yield
        finally:
            _locks.discard(handle)


def check_locks(folder: Path) -> None:
    """Raise UserError if the file system of a folder has no locks. The folder need not exist yet."""
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=nearest_existing(folder)) as file:
        try:
            if locks_enabled:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _no_lock_error(folder, error) from None


def _no_lock_error(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"{folder}: its file system cannot lock files ({os.strerror(error.errno or 0)}), so two processes that write "
        "here at once would damage each other's files; use another disk, or give --no-lock if you are sure that "
        "nothing else writes here"
    )


def hold(path: Path) -> BinaryIO | None:
    """Open a file, and keep other processes from deleting it while it is open. Return None if it is missing.

    If the file system has no locks, or after --no-lock, the file is only opened.
    """
    try:
        handle = path.open("rb")
    except FileNotFoundError:
        return None
    if locks_enabled:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
    # The file may have been deleted or replaced while this process waited for the lock.
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(path.stat(), os.fstat(handle.fileno())):
            return handle
    handle.close()
    return None


@contextmanager
def unused(path: Path) -> Iterator[None]:
    """Within the block, keep other processes from opening a file with hold().

    Raises LockedError if a process holds the file, and UserError if the file system has no locks.
    """
    if not locks_enabled or not path.exists():
        yield
        return
    # Opened for writing, because NFS gives an exclusive lock only on a file that is open for writing.
    with path.open("rb+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"{path}: another process is using this file") from None
        except OSError as error:
            raise _no_lock_error(path.parent, error) from None
        yield
