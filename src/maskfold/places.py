"""Where a command finds the data and keeps its caches; paths in files that stay valid when a project is moved."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from maskfold.cache_folder import CacheFolder

# The limits of Linux and of nearly all of its file systems.
MAX_PATH_BYTES, MAX_NAME_BYTES = 4095, 255


@dataclass(frozen=True)
class Places:
    """The places that the flags of a command name.

    root: raw data folder; prepared: prepared folder; None for one that is found by the paths in the run's and the
    prepared folder's files. cache: where caches are kept.
    """

    root: Path | None = None
    prepared: Path | None = None
    cache: CacheFolder = field(default_factory=CacheFolder)


def can_be_path(path: str | Path) -> bool:
    """Whether a file system can have this path; operating systems refuse even to look for others."""
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        return False
    longest = max(map(len, name.split(b"/")))
    return b"\0" not in name and len(name) <= MAX_PATH_BYTES and longest <= MAX_NAME_BYTES


def is_found(path: Path) -> bool:
    """Whether a path exists; False where it may not be looked for, such as in the home of another user."""
    try:
        return path.exists()
    except OSError:
        return False


def absolute(path: Path) -> Path:
    """The absolute path without `..`; links stay as they are, except before a `..`, which follows them."""
    path = path.absolute()
    if ".." not in path.parts:
        return path
    end = len(path.parts) - path.parts[::-1].index("..")
    return Path(os.path.realpath(Path(*path.parts[:end])), *path.parts[end:])


def recorded_path(path: Path, *beside: Path) -> Path:
    """The form in which a path is written into a file.

    Relative to the working directory if this path and those beside it lie in it, which is then their project and may
    be moved as a whole; otherwise absolute.
    """
    inside = [_in_working_directory(each) for each in (path, *beside)]
    return absolute(path) if inside[0] is None or None in inside else inside[0]


def _in_working_directory(path: Path) -> Path | None:
    # The path as it is written comes first, so that a link to a data folder is recorded, not its target.
    for each, folder in ((absolute(path), Path.cwd()), (path.resolve(), Path.cwd().resolve())):
        if each.is_relative_to(folder):
            return each.relative_to(folder)
    return None


def possible_places(recorded: Path, holder: Path) -> Iterator[Path]:
    """Yield the existing paths that a recorded path may stand for now, the most likely first.

    holder: the file or folder that holds the record. An absolute path comes first as it is. Then come a relative path,
    and the ends of one whose start was renamed or belongs to another machine, in each folder above the holder and in
    the working directory. A path that may not be looked for is left out.
    """
    above = [folder for path in (absolute(holder), holder.resolve()) for folder in path.parents]
    parts = recorded.relative_to(recorded.anchor).parts
    ends = [Path(*parts[start:]) for start in range(len(parts))]
    moved = [folder / end for end in ends for folder in dict.fromkeys([*above, Path.cwd()])]
    yield from filter(is_found, [recorded, *moved] if recorded.is_absolute() else moved)
