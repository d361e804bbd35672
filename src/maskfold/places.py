"""Paths of the data and caches that a command uses, and recorded paths that stay valid when a project is moved."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from maskfold.cache_folder import CacheFolder

# The limits of Linux and of nearly all of its file systems.
MAX_PATH_BYTES, MAX_NAME_BYTES = 4095, 255


@dataclass(frozen=True)
class Places:
    """The paths that the flags of a command give.

    root: the raw data folder. prepared: the prepared folder. If one of them is None, it is found through the
    paths that are recorded in the files of the run and of the prepared folder. cache: the folder of caches.
    """

    root: Path | None = None
    prepared: Path | None = None
    cache: CacheFolder = field(default_factory=CacheFolder)


def can_be_path(path: str | Path) -> bool:
    """Whether a path is valid. Even `Path.exists` raises an error for an invalid path."""
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        return False
    longest = max(map(len, name.split(b"/")))
    return b"\0" not in name and len(name) <= MAX_PATH_BYTES and longest <= MAX_NAME_BYTES


def is_found(path: Path) -> bool:
    """Whether a path exists; False if this user has no access to it, for example in the home of another user."""
    try:
        return path.exists()
    except OSError:
        return False


def absolute(path: Path) -> Path:
    """The absolute path without `..`.

    `link/..` means the parent of the link's target, so links before the last `..` are resolved. Later links are kept.
    """
    path = path.absolute()
    if ".." not in path.parts:
        return path
    end = len(path.parts) - path.parts[::-1].index("..")
    return Path(os.path.realpath(Path(*path.parts[:end])), *path.parts[end:])


def recorded_path(path: Path, *related: Path) -> Path:
    """Return a path in the form in which it is written into a file: relative to the working directory, or absolute.

    It is relative if the path and all `related` paths are in the working directory. The working directory is then
    their common project, which may be moved as a whole.
    """
    inside = [_in_working_directory(each) for each in (path, *related)]
    return absolute(path) if inside[0] is None or None in inside else inside[0]


def _in_working_directory(path: Path) -> Path | None:
    # The unresolved path is tried first, so that a link to a data folder is recorded, not the target of the link.
    for each, folder in ((absolute(path), Path.cwd()), (path.resolve(), Path.cwd().resolve())):
        if each.is_relative_to(folder):
            return each.relative_to(folder)
    return None


def possible_paths(recorded: Path, holder: Path) -> Iterator[Path]:
    """Yield the existing paths that a recorded path may mean now, the most likely first.

    holder: the file or folder that contains the record. An absolute path comes first, unchanged. Then the path is tried
    with more and more of its first folders removed (a/b/c, b/c, c), in each folder above the holder and in the working
    directory. The removed folders may have been renamed or may belong to another machine. Paths to which this user has
    no access are left out.
    """
    above = [folder for path in (absolute(holder), holder.resolve()) for folder in path.parents]
    parts = recorded.relative_to(recorded.anchor).parts
    ends = [Path(*parts[start:]) for start in range(len(parts))]
    moved = [folder / end for end in ends for folder in dict.fromkeys([*above, Path.cwd()])]
    yield from filter(is_found, [recorded, *moved] if recorded.is_absolute() else moved)
