"""Delete a run, so that it can start again. Only run folders are deleted. A killed deletion can be completed."""

import shutil
from contextlib import nullcontext
from pathlib import Path

from maskfold.errors import UserError
from maskfold.fileio import is_temporary
from maskfold.locks import locked
from maskfold.places import can_be_path
from maskfold.runs.run_folder import FULL, RunFolder, fold_of

# The name of config.yaml while a run is being deleted. This file is deleted last.
DELETING = ".deleting"


def is_half_deleted(folder: Path) -> bool:
    """Whether a folder is a run whose deletion was killed."""
    return can_be_path(folder / DELETING) and (folder / DELETING).is_file()


def delete_run(run: RunFolder) -> None:
    """Delete all files of a run except its lock file. The caller must hold the lock.

    If the process is killed, the next call completes the deletion. Raises UserError if the folder is not a run folder.
    """
    marker, own_files = run.folder / DELETING, (".lock", "provenance.json", DELETING)
    if run.started:
        # After this single step, the run does not count as started, but the folder still counts as a run folder.
        (run.folder / "config.yaml").replace(marker)
    other_names = [path.name for path in run.folder.iterdir() if path.name not in own_files and not is_temporary(path)]
    if other_names and not marker.exists():
        raise UserError(f"{run.folder}: contains {min(other_names)} and is not a run folder; give another --name")
    for path in run.folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            # A training process that outlived its killed parent may still be saving a fold or the refit.
            is_part = path.name == FULL or fold_of(path.name) is not None
            with locked(path) if is_part else nullcontext():
                shutil.rmtree(path)
        elif path.name not in (".lock", DELETING):
            path.unlink()
    marker.unlink(missing_ok=True)
