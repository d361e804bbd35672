"""The run folders and prepared folders that clean.py lists."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from maskfold.data.images_table import FOLDS_FILE, META_FILE, Prepared, load_prepared
from maskfold.data.raw_layout import PREPARED_FOLDERS
from maskfold.errors import UserError
from maskfold.places import can_be_path
from maskfold.runs.disk_usage import (
    FolderUsage,
    RunData,
    cache_usage,
    prepared_usage,
    run_usage,
)
from maskfold.runs.run_data import prepared_of
from maskfold.runs.run_deletion import is_half_deleted
from maskfold.runs.run_folder import RunFolder, find_run, runs_root


def list_folders(paths: list[Path], cache_folder: Path | None = None) -> tuple[list[FolderUsage], list[str]]:
    """Return (the FolderUsage of each folder, notes on folders that are left alone or half deleted).

    paths: run folders, names of runs, or prepared folders; an empty list means all runs and all prepared folders in
    data/prepared. The prepared folders of the runs are always added. cache_folder: the folder that --cache names.
    Raises UserError for an unknown path.
    """
    # Runs may share a prepared folder, which is then read only once.
    load = cache(load_prepared)
    prepared = [path for path in paths if _is_prepared(path)]
    runs, notes = ([_find(path) for path in paths if path not in prepared], []) if paths else _all_runs()
    if not paths:
        prepared = [path for path in sorted(PREPARED_FOLDERS.glob("*")) if _is_prepared(path)]
    data_by_run = {run: _prepared_of(RunFolder(run), load) for run in runs}
    prepared += [data.folder for data in data_by_run.values() if data is not None]
    links = [folder for folder in (*runs, *prepared) if folder.is_symlink()]
    notes += [f"{folder}: is a symbolic link, which is not followed" for folder in dict.fromkeys(links)]
    runs, prepared = (
        list({folder.resolve(): folder for folder in folders if folder not in links}.values())
        for folders in (runs, prepared)
    )
    notes += [
        f"{run}: its deletion was not finished; finish it with clean.py {run} --runs"
        for run in runs
        if is_half_deleted(run)
    ]
    usages = [run_usage(RunFolder(run), data_by_run[run]) for run in runs]
    usages += [prepared_usage(folder, _loaded(folder, load)) for folder in prepared]
    if cache_folder is not None:
        known = {run.resolve(): run for run in (*runs, *_all_runs()[0]) if not is_half_deleted(run)}
        data: RunData = {run: _prepared_of(run, load) for run in map(RunFolder, known.values())}
        usages.append(cache_usage(cache_folder, data))
    return usages, notes


def _is_prepared(folder: Path) -> bool:
    """Whether this is a prepared folder. It may have no dataset.json if its preparation was killed."""
    return any(can_be_path(folder / name) and (folder / name).is_file() for name in (META_FILE, FOLDS_FILE))


def _find(path: Path) -> Path:
    """Like find_run, but also finds a run whose deletion was killed."""
    return next((folder for folder in (path, runs_root() / path) if is_half_deleted(folder)), None) or find_run(path)


def _all_runs() -> tuple[list[Path], list[str]]:
    """Return (the runs in runs_root(), notes on the folders that are left alone)."""
    runs, notes = [], []
    for folder in sorted(runs_root().glob("*")):
        if is_half_deleted(folder):
            runs.append(folder)
        elif (folder / "config.yaml").is_file():
            try:
                runs.append(find_run(folder))
            except UserError as error:
                notes.append(f"{folder}: left alone, because it is not a readable run ({error})")
    return runs, notes


def _prepared_of(run: RunFolder, load: Callable[[Path], Prepared]) -> Prepared | None:
    try:
        return prepared_of(run, load)
    # OSError: the deletion of the run was killed or is still in progress.
    except (UserError, OSError):
        return None


def _loaded(folder: Path, load: Callable[[Path], Prepared]) -> Prepared | None:
    try:
        return load(folder)
    except UserError:
        return None
