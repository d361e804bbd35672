"""Files are written beside their place and renamed into it: a reader sees the old one or the new one, never a half."""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from maskfold.errors import UserError

SECONDS_TO_REACH_DISK = 120
# Locks that this process holds. A forked child shares an open file and would hold its lock beyond this process' end.
_locks: set[TextIO] = set()
os.register_at_fork(after_in_child=lambda: [handle.close() for handle in _locks])


def write_atomic(path: Path, write: Callable[[Path], object], flush: bool = True) -> None:
    """Call `write(temporary path)`, flush what it wrote and rename it to `path`; on any failure nothing is left.

    Without `flush` the system writes it out in its own time: for what can be made again, and asks perhaps_torn first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays: numpy and others choose the format by it.
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(beside)
        if flush:
            with beside.open("rb+") as written:
                os.fsync(written.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def may_be_incomplete(path: Path) -> bool:
    """Whether a file was written so shortly before the machine's last start that parts may never have reached the disk.

    Linux writes out what is older than 30 s (vm.dirty_expire_centisecs); elsewhere no time of start is known: False.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None:
        return False
    started = time.time() - time.clock_gettime(clock)
    return started - SECONDS_TO_REACH_DISK < path.stat().st_mtime < started


def write_text(path: Path, text: str) -> None:
    write_atomic(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: dict) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, mend: str) -> dict:
    """A JSON object. Raises UserError, ending with `mend`, where the file is missing or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; {mend}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as fault:
        raise UserError(f"{path}: not readable as JSON ({fault}); {mend}") from fault
    if not isinstance(content, dict):
        raise UserError(f"{path}: a JSON object is expected; {mend}")
    return content


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: Path, busy: str | None = None) -> Iterator[None]:
    """Hold `folder` (made where it is missing) against other processes; the lock ends with its process, even killed.

    With `busy`, a folder that another process holds raises UserError(busy); without, its end is waited for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise UserError(busy) from None
        _locks.add(handle)
        try:
            yield
        finally:
            _locks.discard(handle)
