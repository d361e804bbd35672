"""Delete a run, so that it can start again: never another folder, and to the end even if the deletion is killed."""

import shutil
from contextlib import nullcontext
from pathlib import Path

from maskfold.errors import UserError
from maskfold.fileio import is_temporary
from maskfold.locks import locked
from maskfold.places import can_be_path
from maskfold.runs.run_folder import FULL, RunFolder, fold_of

# What config.yaml is renamed to while a run is deleted. It is deleted last.
DELETING = ".deleting"


def is_half_deleted(folder: Path) -> bool:
    """Whether a folder is a run whose deletion was killed."""
    return can_be_path(folder / DELETING) and (folder / DELETING).is_file()


def delete_run(run: RunFolder) -> None:
    """Delete everything but the lock, which this process holds. Raises UserError if the folder is not a run folder.

    The next call finishes a deletion that was killed.
    """
    marker, own_files = run.folder / DELETING, (".lock", "provenance.json", DELETING)
    if run.started:
        # In one step the run is no longer started, and the folder is still known as a run folder.
        (run.folder / "config.yaml").replace(marker)
    others = [path.name for path in run.folder.iterdir() if path.name not in own_files and not is_temporary(path)]
    if others and not marker.exists():
        raise UserError(f"{run.folder}: contains {min(others)} and is not a run folder; give another --name")
    for path in run.folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            # A training process that outlived its killed parent may still be saving into a part.
            is_part = path.name == FULL or fold_of(path.name) is not None
            with locked(path) if is_part else nullcontext():
                shutil.rmtree(path)
        elif path.name not in (".lock", DELETING):
            path.unlink()
    marker.unlink(missing_ok=True)
