"""What runs and prepared folders take on disk. Only files that the project wrote count, recognised by their names."""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maskfold.data.images_table import META_FILE, load_prepared
from maskfold.errors import UserError
from maskfold.fileio import is_temporary
from maskfold.models.tta import VIEWS
from maskfold.runs.run_data import prepared_places
from maskfold.runs.run_folder import FULL, RunFolder, find_run, fold_of, runs_root

STATE_NAME = re.compile(r"last\.pt|epoch-\d+\.safetensors")
STORE_NAME = re.compile(r"[a-z_]+-\d+x\d+-[0-9a-f]{12}\.(npy|json)")
FEATURES_NAME = re.compile(r"features-[0-9a-f]{16}\.npy")
PREDICTIONS_NAME = re.compile(r"(?:eval|oof)-([a-z_+]+)\.npz")
# A process on another machine may still write a younger temporary file.
MIN_TEMPORARY_SECONDS = 600
PREPARED_FOLDERS = Path("data/prepared")


@dataclass(frozen=True)
class DiskEntry:
    """A file, or a folder, that can be deleted. cost: why it can't be made again; empty if it can."""

    path: Path
    kind: str
    size: int
    cost: str = ""


@dataclass(frozen=True)
class FolderUsage:
    """A run folder (run is set), a prepared folder or a folder of --cache, its size in bytes and the entries in it.

    users: the runs that use its files while they are in training.
    """

    folder: Path
    run: RunFolder | None
    users: list[RunFolder]
    size: int
    entries: list[DiskEntry]

    def size_of(self, kind: str) -> int:
        return sum(entry.size for entry in self.entries if entry.kind == kind)


def find_folders(paths: list[Path]) -> tuple[list[Path], list[Path], list[str]]:
    """(run folders, prepared folders, notes on folders that are left alone).

    paths: run folders, names of runs or prepared folders; empty for all runs and for all prepared folders in
    data/prepared or used by a run. With runs, their prepared folders are added. Raises UserError for an unknown path.
    """
    is_prepared = {path: (path / META_FILE).is_file() for path in paths}
    runs = [find_run(path) for path in paths if not is_prepared[path]]
    prepared = [path for path in paths if is_prepared[path]]
    notes: list[str] = []
    if not paths:
        for config in sorted(runs_root().glob("*/config.yaml")):
            try:
                runs.append(find_run(config.parent))
            except UserError as error:
                notes.append(f"{config.parent}: left alone, because it is not a readable run ({error})")
        prepared = sorted(meta.parent for meta in PREPARED_FOLDERS.glob(f"*/{META_FILE}"))
    prepared += [folder for run in runs if (folder := prepared_of_run(RunFolder(run)))]
    links = [folder for folder in (*runs, *prepared) if folder.is_symlink()]
    notes += [f"{folder}: is a symbolic link, which is not followed" for folder in dict.fromkeys(links)]
    runs, prepared = (
        list({folder.resolve(): folder for folder in folders if folder not in links}.values())
        for folders in (runs, prepared)
    )
    return runs, prepared, notes


def prepared_of_run(run: RunFolder) -> Path | None:
    """The prepared folder of a run; None if its config can't be read or the folder is not found."""
    try:
        return next(prepared_places(run), None)
    except UserError:
        return None


def run_usage(run: RunFolder) -> FolderUsage:
    """The size of a run folder and what can be deleted in it."""
    folder, finished = run.folder, run.finished_parts
    prepared = prepared_of_run(run)
    if all(run.weights_path(part).exists() for part in finished):
        cost = "its prepared folder is missing" if prepared is None else missing_raw_data(prepared)
    else:
        cost = "the weights that predicted it are missing"
    entries = _predictions(folder, cost)
    parts = part_folders(folder)
    for part in parts:
        entries += [
            DiskEntry(path, "states", size) for path, size in _files(part / "state") if STATE_NAME.fullmatch(path.name)
        ]
        weights = run.weights_path(part.name)
        cost = f"{part.name} has to be trained again"
        entries += [DiskEntry(path, "weights", size, cost) for path, size in _files(part) if path == weights]
    for path in [path for path in _folders(folder) if path.name == "wandb"]:
        offline = [each for each in _folders(path) if each.name.startswith("offline-run-")]
        is_uploaded = all(any(each.glob("*.wandb.synced")) for each in offline)
        cost = "" if is_uploaded else "it has an offline run that was not uploaded"
        entries.append(DiskEntry(path, "wandb", _size(path), cost))
    for place in (folder, folder / "audit", *parts, *[part / "state" for part in parts]):
        entries += _temporary(place)
    return FolderUsage(folder, run, [run], _size(folder), entries)


def part_folders(folder: Path) -> list[Path]:
    """The folders of the parts in a run folder."""
    return [path for path in _folders(folder) if path.name == FULL or fold_of(path.name) is not None]


def prepared_usage(folder: Path) -> FolderUsage:
    """The size of a prepared folder and what can be deleted in it."""
    entries = [*_stored(folder, missing_raw_data(folder)), *_temporary(folder), *_temporary(folder / "store")]
    users = [run for run in _known_runs() if (used := prepared_of_run(run)) and used.resolve() == folder.resolve()]
    return FolderUsage(folder, None, users, _size(folder), entries)


def cache_usage(folder: Path) -> FolderUsage:
    """The size of a folder of --cache and what can be deleted in it."""
    places = [folder, *_folders(folder)]
    entries = [entry for place in places for entry in (*_predictions(place), *_temporary(place))]
    return FolderUsage(folder, None, _known_runs(), _size(folder), [*_stored(folder), *entries])


def missing_raw_data(prepared: Path) -> str:
    """Why stores of a prepared folder can't be built again; an empty string if its raw data is there."""
    try:
        _ = load_prepared(prepared).root
    except UserError as error:
        return f"the photos are not found ({error})"
    return ""


def _known_runs() -> list[RunFolder]:
    return [RunFolder(config.parent) for config in sorted(runs_root().glob("*/config.yaml"))]


def _stored(folder: Path, cost: str = "") -> list[DiskEntry]:
    """The stores and features in the folder `store` of a prepared folder or cache."""
    return [
        DiskEntry(path, "stores" if STORE_NAME.fullmatch(path.name) else "caches", size, cost)
        for path, size in _files(folder / "store")
        if STORE_NAME.fullmatch(path.name) or FEATURES_NAME.fullmatch(path.name)
    ]


def _predictions(folder: Path, cost: str = "") -> list[DiskEntry]:
    """The cached predictions in a run folder or in its folder of a cache."""
    return [
        DiskEntry(path, "caches", size, cost)
        for path, size in _files(folder)
        if (match := PREDICTIONS_NAME.fullmatch(path.name)) and set(match[1].split("+")) <= VIEWS.keys()
    ]


def _temporary(folder: Path) -> Iterator[DiskEntry]:
    """Temporary files of write_atomic whose process has ended."""
    for path, size in _files(folder):
        is_old = time.time() - path.stat().st_mtime > MIN_TEMPORARY_SECONDS
        # write_atomic puts the number of its process into the name.
        if is_temporary(path) and is_old and not _is_running(int(path.name.split(".")[1])):
            yield DiskEntry(path, "temporary", size)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """(path, bytes) of the files in a folder, in order; symbolic links are left out."""
    if folder.is_dir() and not folder.is_symlink():
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.is_symlink():
                yield path, path.stat().st_size


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.is_symlink()]


def _size(folder: Path) -> int:
    """Bytes of all files below a folder, without following symbolic links."""
    return sum(size for _, size in _files(folder)) + sum(map(_size, _folders(folder)))
