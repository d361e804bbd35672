"""Atomic writes, checks of paths, and hashes. A reader sees the old file or the new file, never a part of one."""

import errno
import hashlib
import json
import os
import re
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from maskfold.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

SECONDS_TO_REACH_DISK = 120
# A zip file must not unpack to more than MAX_EXPANSION times its size, or MIN_UNPACKED_BYTES if that is more. np.savez
# and torch.save do not compress, and other writers compress little.
MAX_EXPANSION, MIN_UNPACKED_BYTES = 50, 50 * 2**20
# errno values for a folder that cannot be written to: the disk is full or read-only, or access is not permitted.
CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def write_atomic(path: Path, write: Callable[[Path], object], flush: bool = True) -> None:
    """Call `write(temporary path)`, flush the file to disk and rename it to `path`.

    If anything fails, `path` is unchanged and no temporary file is left. flush=False skips the fsync; use it only for
    files that can be built again and are checked with may_be_incomplete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The temporary file has the same suffix, because numpy and other libraries choose the format by the suffix.
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


def nearest_existing(path: Path) -> Path:
    """The path if it exists, otherwise its nearest existing parent folder."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def file_in_the_way(folder: Path) -> Path | None:
    """The file at the path of a folder or of one of its parents; None if there is no such file."""
    return None if (existing := nearest_existing(folder)).is_dir() else existing


def why_not_writable(folder: Path) -> str | None:
    """Why files cannot be written into a folder; None if they can.

    For a folder that does not exist, its nearest existing parent is tested.
    """
    if file := file_in_the_way(folder):
        return f"{file} is not a folder"
    try:
        with tempfile.TemporaryFile(dir=nearest_existing(folder)):
            return None
    except OSError as error:
        return os.strerror(error.errno or 0)


def check_output(folder: Path, flag: str, file: Path | None = None) -> None:
    """Raise UserError if no file can be written into a folder. Call this before computing the content.

    flag: the flag that chooses another place. file: the file that will be written into the folder.
    """
    cause = why_not_writable(folder) or (f"{file} is a folder" if file is not None and file.is_dir() else None)
    if cause is not None:
        raise UserError(f"{file or folder}: cannot be written ({cause}); choose another place with {flag}")


def check_expansion(path: Path) -> None:
    """Raise ValueError if a zip file unpacks to more than the limit (see MAX_EXPANSION): it could fill the memory."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(MIN_UNPACKED_BYTES, MAX_EXPANSION * path.stat().st_size):
        raise ValueError(f"it would unpack to {unpacked:,} bytes")


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_readable(path: Path) -> None:
    """Raise UserError if the disk or the permissions prevent reading a file. A missing file is accepted.

    Called after a file could not be parsed, to distinguish such causes from damaged content.
    """
    try:
        sha256(path)
    except FileNotFoundError:
        return
    except OSError as error:
        cause = os.strerror(error.errno or 0)
        raise UserError(f"{path}: cannot be read ({cause}); check the disk and the permissions of the file") from error
