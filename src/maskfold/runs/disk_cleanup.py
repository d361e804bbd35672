"""Delete what runs and prepared folders can do without, or whole runs."""

import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from maskfold.errors import LockedError, UserError, indented_list
from maskfold.locks import locked
from maskfold.runs.disk_usage import DiskEntry, FolderUsage, part_folders
from maskfold.runs.run_deletion import delete_run
from maskfold.runs.run_folder import RunFolder

# The kind of an entry that is a run folder itself.
WHOLE_RUN = "runs"


@dataclass(frozen=True)
class Cleanup:
    """What was deleted, and a note on each folder that was left alone because it is in use."""

    deleted: list[DiskEntry]
    skipped: list[str]

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.deleted)


def delete(
    folders: Sequence[FolderUsage], kinds: Iterable[str], whole_runs: bool = False, yes: bool = False
) -> Cleanup:
    """Delete the entries of these kinds, and with whole_runs the run folders. Folders in use are skipped.

    yes: also delete what can't be made again. Otherwise raises UserError that lists it, before anything is deleted.
    """
    kinds = set(kinds)
    chosen = {usage.folder: _chosen(usage, kinds, whole_runs) for usage in folders}
    costly = [f"{entry.path}: {entry.cost}" for entries in chosen.values() for entry in entries if entry.cost]
    if costly and not yes:
        raise UserError(
            f"{len(costly)} of the things to delete can't be made again; add --yes to delete them all the same, or ask "
            f"for less:\n{indented_list(costly)}"
        )
    deleted, skipped = [], []
    for usage in folders:
        if not chosen[usage.folder]:
            continue
        try:
            with ExitStack() as locks:
                # Held while deleting, so that no run starts to use the files.
                for run in usage.users:
                    locks.enter_context(run.lock())
                for folder in _inner_folders(usage):
                    with locked(folder, f"{folder}: another process is writing into it"):
                        pass
                for entry in chosen[usage.folder]:
                    _remove(entry)
                    deleted.append(entry)
        except LockedError as error:
            skipped.append(f"{usage.folder}: left alone, because it is in use ({error})")
    return Cleanup(deleted, skipped)


def _chosen(usage: FolderUsage, kinds: set[str], whole_runs: bool) -> list[DiskEntry]:
    if not (whole_runs and usage.run):
        return [entry for entry in usage.entries if entry.kind in kinds]
    finished = usage.run.finished_parts
    cost = f"{', '.join(finished)} finished" if finished else ""
    return [DiskEntry(usage.folder, WHOLE_RUN, usage.size, cost)]


def _inner_folders(usage: FolderUsage) -> list[Path]:
    """Folders with a lock of their own: the parts of a run, which an orphaned process may still train, or the store."""
    if usage.run is not None:
        return part_folders(usage.folder)
    return [path for path in (usage.folder, usage.folder / "store") if path.is_dir() and not path.is_symlink()]


def _remove(entry: DiskEntry) -> None:
    """Delete a file or folder, and the folder of a training state that is left empty; links are not followed."""
    path = entry.path
    if entry.kind == WHOLE_RUN:
        delete_run(RunFolder(path))
        (path / ".lock").unlink()
        path.rmdir()
        return
    if path.is_dir():
        shutil.rmtree(path)
        return
    path.unlink(missing_ok=True)
    if path.parent.name == "state" and not any(path.parent.iterdir()):
        path.parent.rmdir()
