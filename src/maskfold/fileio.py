"""Atomic writes, locks and hashes: a reader sees the old file or the new file, never a part of one."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from maskfold.errors import LockedError, UserError

if TYPE_CHECKING:
    import pandas as pd

SECONDS_TO_REACH_DISK = 120
# A zip file may unpack to this many times its size. np.savez and torch.save do not compress; others compress little.
MAX_EXPANSION, MIN_UNPACKED_BYTES = 50, 50 * 2**20
# The errors for a folder that cannot be written: the disk is full or read-only, or the folder belongs to another user.
CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
# Locks that this process holds. A forked child inherits the open files and would keep their locks after this process
# has ended, so it closes them.
_locks: set[TextIO] = set()
os.register_at_fork(after_in_child=lambda: [handle.close() for handle in _locks])
# Whether `locked` takes a lock; False after --no-lock.
locks_enabled = True


def enable_locks(enabled: bool) -> None:
    """Turn the locks of `locked` on, or with False (--no-lock) off, for this process."""
    global locks_enabled
    locks_enabled = enabled


def write_atomic(path: Path, write: Callable[[Path], object], flush: bool = True) -> None:
    """Call `write(temporary path)`, flush the file to disk and rename it to `path`.

    If anything fails, `path` is unchanged and no temporary file is left. flush=False skips the fsync; use it only for
    files that can be built again and are checked with may_be_incomplete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays the same because numpy and other libraries choose the format by it.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(temporary)
        if flush:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether a path is a temporary file of write_atomic. A killed process leaves such a file behind."""
    return re.fullmatch(r"\.\d+\..+", path.name) is not None


def may_be_incomplete(path: Path) -> bool:
    """Whether a file was written shortly before the last boot, so that parts of it may not have reached the disk.

    Linux writes data to disk after 30 s (vm.dirty_expire_centisecs). Returns False on systems without a boot clock.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None:
        return False
    boot_time = time.time() - time.clock_gettime(clock)
    return boot_time - SECONDS_TO_REACH_DISK < path.stat().st_mtime < boot_time


def write_text(path: Path, text: str) -> None:
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table without its index."""
    write_atomic(path, lambda temporary: table.to_csv(temporary, index=False))


def json_text(content: dict) -> str:
    """Format a JSON object as the text of a file."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, content: dict) -> None:
    write_text(path, json_text(content))


def read_json(path: Path, fix: str) -> dict:
    """Read a JSON object.

    Raises UserError, whose message ends with `fix`, if the file is missing or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; {fix}") from None
    except (ValueError, RecursionError) as fault:
        # ValueError: not UTF-8, not JSON, or an integer of thousands of digits. RecursionError: nested too deeply.
        raise UserError(f"{path}: not readable as JSON ({fault}); {fix}") from fault
    if not isinstance(content, dict):
        raise UserError(f"{path}: is not a JSON object; {fix}")
    return content


def read_json_or_none(path: Path) -> dict | None:
    """Read a JSON object that is not essential. Return None if the file is missing or is not a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def why_not_writable(folder: Path) -> str | None:
    """Return the reason why a folder cannot be written, or None if it can.

    If the folder does not exist yet, the nearest existing folder above it is tested.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return os.strerror(error.errno or 0)


def check_output(folder: Path, flag: str) -> None:
    """Raise UserError if a folder cannot be written. Call this before a long computation whose result goes there.

    flag: the flag that chooses another folder.
    """
    if (cause := why_not_writable(folder)) is not None:
        raise UserError(f"{folder}: cannot be written ({cause}); choose another folder with {flag}")


def check_expansion(path: Path) -> None:
    """Raise ValueError for a zip file that would fill the memory when it is unpacked."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(MIN_UNPACKED_BYTES, MAX_EXPANSION * path.stat().st_size):
        raise ValueError(f"unpacked, it would have {unpacked:,} bytes")


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: Path, busy_message: str | None = None) -> Iterator[None]:
    """Lock `folder` against other processes; the folder is created if it is missing.

    The lock ends with the process, even if the process is killed. If another process holds the lock, this function
    raises LockedError(busy_message), or waits if busy_message is None. Raises UserError if the file system has no
    locks. After --no-lock nothing is locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not locks_enabled:
        yield
        return
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy_message else 0))
        except BlockingIOError:
            raise LockedError(busy_message) from None
        except OSError as error:
            raise _no_lock_error(folder, error) from None
        _locks.add(handle)
        try:
            yield
        finally:
            _locks.discard(handle)


def check_locks(folder: Path) -> None:
    """Raise UserError if the file system of a folder has no locks. The folder need not exist yet."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=existing) as file:
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
