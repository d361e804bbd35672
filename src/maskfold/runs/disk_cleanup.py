"""Delete whole runs, or the files of given kinds in run folders, prepared folders and cache folders."""

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from maskfold.errors import LockedError, UserError, indented_list
from maskfold.locks import locked, unused
from maskfold.runs.disk_kinds import WHOLE_RUN
from maskfold.runs.disk_usage import DiskEntry, FolderUsage, part_folders
from maskfold.runs.run_deletion import delete_run
from maskfold.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Cleanup:
    """The result of delete(): the deleted entries, notes on what was skipped because it is in use, and errors."""

    deleted: list[DiskEntry] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.deleted)

    def raise_errors(self) -> None:
        """Raise UserError if something could not be deleted."""
        if self.failed:
            raise UserError(
                "some files could not be deleted; fix these errors and run the command again:\n"
                f"{indented_list(self.failed)}"
            )


def delete(folders: Sequence[FolderUsage], kinds: Iterable[str], yes: bool = False) -> Cleanup:
    """Delete the entries of these kinds that are not in use. After an error in one folder, continue with the others.

    yes: also delete entries that can't be made again. If there are such entries and `yes` is False, raises UserError
    with a list of them before anything is deleted.
    """
    chosen = [(usage, entries) for usage in folders if (entries := _chosen(usage, set(kinds)))]
    costly = [f"{entry.path}: {entry.cost}" for _, entries in chosen for entry in entries if entry.cost]
    if costly and not yes:
        raise UserError(
            f"{len(costly)} of the files and folders to delete can't be made again; add --yes to delete them anyway, "
            f"or delete less:\n{indented_list(costly)}"
        )
    cleanup = Cleanup()
    for usage, entries in chosen:
        try:
            _delete_entries(usage, entries, cleanup)
        except LockedError as error:
            cleanup.skipped.append(f"{usage.folder}: left alone, because it is in use ({error})")
        except UserError as error:
            cleanup.failed.append(str(error))
        except OSError as error:
            cleanup.failed.append(f"{error.filename or usage.folder}: {os.strerror(error.errno or 0)}")
    return cleanup


def _delete_entries(usage: FolderUsage, entries: Sequence[DiskEntry], cleanup: Cleanup) -> None:
    with ExitStack() as locks:
        if usage.run is not None:
            # The lock is held while files are deleted, so that the run cannot be resumed in the meantime.
            locks.enter_context(usage.run.lock())
        for folder in _inner_folders(usage):
            with locked(folder, f"{folder}: another process is writing into it"):
                pass
        for entry in entries:
            try:
                _remove(entry)
            except LockedError as error:
                cleanup.skipped.append(f"{entry.path}: left alone, because it is in use ({error})")
            else:
                cleanup.deleted.append(entry)


def _chosen(usage: FolderUsage, kinds: set[str]) -> list[DiskEntry]:
    entries = [entry for entry in usage.entries if entry.kind in kinds]
    # If the whole run is deleted, all its other entries are deleted with it.
    return [entry for entry in entries if entry.kind == WHOLE_RUN] or entries


def _inner_folders(usage: FolderUsage) -> list[Path]:
    """Folders that have their own lock: the parts of a run, or a prepared or cache folder and its `store`.

    An orphaned process may still train a part although the run itself is not locked.
    """
    if usage.run is not None:
        return part_folders(usage.folder)
    return [path for path in (usage.folder, usage.folder / "store") if path.is_dir() and not path.is_symlink()]


def _remove(entry: DiskEntry) -> None:
    """Delete a file or folder, without following links. A `state` folder that becomes empty is deleted as well."""
    path = entry.path
    if entry.kind == WHOLE_RUN:
        delete_run(RunFolder(path))
        # With --no-lock there is no lock file.
        (path / ".lock").unlink(missing_ok=True)
        # The path is resolved because the working directory cannot be removed by the name `.`.
        path.resolve().rmdir()
        return
    if entry.kind == "stores":
        # A store (.npy) and its list of photos without a face (.json) share the lock of the .npy file.
        with unused(path.with_suffix(".npy")):
            path.unlink(missing_ok=True)
        return
    if path.is_dir():
        shutil.rmtree(path)
        return
    path.unlink(missing_ok=True)
    if path.parent.name == "state" and not any(path.parent.iterdir()):
        path.parent.rmdir()
