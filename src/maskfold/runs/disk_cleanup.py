"""Delete what runs and prepared folders can do without, or whole runs."""

import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from maskfold.errors import LockedError, UserError, indented_list
from maskfold.fileio import locked
from maskfold.runs.disk_usage import Entry, FolderUsage, prepared_of_run
from maskfold.runs.run_folder import RunFolder, runs_root

# The kind of an entry that is a run folder itself.
WHOLE_RUN = "runs"


@dataclass(frozen=True)
class Cleanup:
    """What was deleted, and a note on each folder that was left alone because it is in use."""

    deleted: list[Entry]
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
            # Held while deleting, so that no run starts to use the files.
            with ExitStack() as locks:
                for run in _runs_using(usage):
                    locks.enter_context(run.lock())
                if usage.run is None:
                    locks.enter_context(locked(usage.folder, f"{usage.folder}: is being prepared"))
                    locks.enter_context(locked(usage.folder / "store", f"{usage.folder}: its store is being built"))
                for entry in chosen[usage.folder]:
                    _remove(entry.path)
                    deleted.append(entry)
        except LockedError as error:
            skipped.append(f"{usage.folder}: left alone, because it is in use ({error})")
    return Cleanup(deleted, skipped)


def _chosen(usage: FolderUsage, kinds: set[str], whole_runs: bool) -> list[Entry]:
    if not (whole_runs and usage.run):
        return [entry for entry in usage.entries if entry.kind in kinds]
    finished = usage.run.finished_parts
    cost = f"{', '.join(finished)} finished" if finished else ""
    return [Entry(usage.folder, WHOLE_RUN, usage.size, cost)]


def _runs_using(usage: FolderUsage) -> list[RunFolder]:
    """The run itself; for a prepared folder all known runs on it, which may read its store."""
    if usage.run is not None:
        return [usage.run]
    runs = [RunFolder(config.parent) for config in sorted(runs_root().glob("*/config.yaml"))]
    return [run for run in runs if (used := prepared_of_run(run)) and used.resolve() == usage.folder.resolve()]


def _remove(path: Path) -> None:
    """Delete a file or folder, and the folder of a training state that is left empty; links are not followed."""
    if path.is_dir():
        shutil.rmtree(path)
        return
    path.unlink(missing_ok=True)
    if path.parent.name == "state" and not any(path.parent.iterdir()):
        path.parent.rmdir()
