"""The disk space of run, prepared and cache folders. Files that may be deleted are recognised by their names."""

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.fileio import is_temporary
from maskfold.loading.store import store_name
from maskfold.models.tta import VIEWS
from maskfold.runs.disk_kinds import WHOLE_RUN
from maskfold.runs.run_deletion import is_half_deleted
from maskfold.runs.run_folder import FULL, RunFolder, fold_of
from maskfold.runs.wandb_logger import offline_runs

STATE_NAME = re.compile(r"last\.pt|epoch-\d+\.safetensors")
STORE_NAME = re.compile(r"[a-z_]+-\d+x\d+-[0-9a-f]{12}\.(npy|json)")
FEATURES_NAME = re.compile(r"features-[0-9a-f]{16}\.npy")
PREDICTIONS_NAME = re.compile(r"(?:eval|oof)-([a-z_+]+)\.npz")
# Temporary files younger than this are not deleted, because a process on another machine may still be writing them.
MIN_TEMPORARY_SECONDS = 600
# The prepared data of each run, or None if it is not found.
RunData = Mapping[RunFolder, Prepared | None]


@dataclass(frozen=True)
class DiskEntry:
    """A file or folder that may be deleted. size: in bytes; cost: the reason to keep it, empty if it can be remade."""

    path: Path
    kind: str
    size: int
    cost: str = ""


@dataclass(frozen=True)
class FolderUsage:
    """The size in bytes and the entries of a run folder, a prepared folder or a cache folder (--cache).

    `run` is set only for a run folder. The entries of a run folder include the folder itself (kind WHOLE_RUN).
    """

    folder: Path
    run: RunFolder | None
    size: int
    entries: list[DiskEntry]

    def size_of(self, kind: str) -> int:
        return sum(entry.size for entry in self.entries if entry.kind == kind)


def run_usage(run: RunFolder, prepared: Prepared | None) -> FolderUsage:
    """The size of a run folder and what can be deleted in it. prepared: the run's data, None if it is not found."""
    folder, finished, size = run.folder, run.finished_parts, _size(run.folder)
    if is_half_deleted(folder):
        return FolderUsage(folder, run, size, [DiskEntry(folder, WHOLE_RUN, size)])
    cost = f"{', '.join(finished)} finished" if finished else ""
    entries = [DiskEntry(folder, WHOLE_RUN, size, cost), *_predictions(folder, _prediction_cost(run, prepared))]
    parts = part_folders(folder)
    for part in parts:
        entries += [
            DiskEntry(path, "states", size) for path, size in _files(part / "state") if STATE_NAME.fullmatch(path.name)
        ]
        weights = run.weights_path(part.name)
        cost = f"{part.name} has to be trained again"
        entries += [DiskEntry(path, "weights", size, cost) for path, size in _files(part) if path == weights]
    for path in [path for path in _folders(folder) if path.name == "wandb"]:
        cost = "it has a W&B run that was not uploaded" if offline_runs(folder) else ""
        entries.append(DiskEntry(path, "wandb", _size(path), cost))
    for place in (folder, folder / "audit", *parts, *[part / "state" for part in parts]):
        entries += _temporary(place)
    return FolderUsage(folder, run, size, entries)


def part_folders(folder: Path) -> list[Path]:
    """The folders of the parts (folds and refit) in a run folder."""
    return [path for path in _folders(folder) if path.name == FULL or fold_of(path.name) is not None]


def prepared_usage(folder: Path, prepared: Prepared | None) -> FolderUsage:
    """The size of a prepared folder and what can be deleted in it. prepared: its content, None if it is damaged."""
    cost = "its tables are missing or damaged" if prepared is None else _missing_photos(prepared)
    entries = [*_stored(folder, {}, cost, cost), *_temporary(folder), *_temporary(folder / "store")]
    return FolderUsage(folder, None, _size(folder), entries)


def cache_usage(folder: Path, runs: RunData) -> FolderUsage:
    """The size of a cache folder and what can be deleted in it. runs: the runs that may have written into it."""
    unknown = "no known run uses it"
    store_costs: dict[str, str] = {}
    prediction_costs = {run.cache_key: _prediction_cost(run, prepared) for run, prepared in runs.items()}
    for run, prepared in [(run, prepared) for run, prepared in runs.items() if prepared is not None]:
        cost = _missing_photos(prepared)
        for key, table in (("fingerprint", prepared.images), ("eval_fingerprint", prepared.evaluation)):
            if table is not None:
                store = Path(store_name(run.config.data, prepared.meta[key], table.image_id)).stem
                # Prepared folders may share a store. The store can be built again if one of them finds its photos, so
                # min() prefers the empty cost.
                store_costs[store] = min(cost, store_costs.get(store, cost))
    features_cost = max(store_costs.values(), default=unknown)
    entries = _stored(folder, store_costs, unknown, features_cost)
    entries += [*_temporary(folder), *_temporary(folder / "store")]
    for place in _folders(folder):
        entries += [*_predictions(place, prediction_costs.get(place.name, unknown)), *_temporary(place)]
    return FolderUsage(folder, None, _size(folder), entries)


def _prediction_cost(run: RunFolder, prepared: Prepared | None) -> str:
    """Why a run can't predict again; an empty string if it can."""
    if not all(run.weights_path(part).exists() for part in run.finished_parts):
        return "the weights that predicted it are missing"
    return "its prepared folder is not found" if prepared is None else _missing_photos(prepared)


def _missing_photos(prepared: Prepared) -> str:
    """Why stores of a prepared folder can't be built again; an empty string if its photos are there."""
    try:
        _ = prepared.root
        _ = None if prepared.evaluation is None else prepared.eval_dir
    except UserError as error:
        return f"the photos are not found ({error})"
    return ""


def _stored(folder: Path, costs: Mapping[str, str], other_cost: str, features_cost: str) -> list[DiskEntry]:
    """The stores and cached features in the `store` folder of a prepared folder or cache folder.

    costs: {file name of a store without its suffix: cost}; other_cost: the cost of all other stores.
    """
    entries = []
    for path, size in _files(folder / "store"):
        if STORE_NAME.fullmatch(path.name):
            entries.append(DiskEntry(path, "stores", size, costs.get(path.stem, other_cost)))
        elif FEATURES_NAME.fullmatch(path.name):
            entries.append(DiskEntry(path, "caches", size, features_cost))
    return entries


def _predictions(folder: Path, cost: str) -> list[DiskEntry]:
    """The cached predictions in a run folder or in the run's folder inside a cache folder."""
    return [
        DiskEntry(path, "caches", size, cost)
        for path, size in _files(folder)
        if (match := PREDICTIONS_NAME.fullmatch(path.name)) and set(match[1].split("+")) <= VIEWS.keys()
    ]


def _temporary(folder: Path) -> Iterator[DiskEntry]:
    """Temporary files of write_atomic whose process has ended."""
    for path, size in _files(folder):
        # write_atomic puts the process id into the name.
        is_left = is_temporary(path) and not _is_running(int(path.name.split(".")[1]))
        if is_left and time.time() - path.stat().st_mtime > MIN_TEMPORARY_SECONDS:
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
    """Yield (path, bytes) of the files in a folder, sorted by name; skip symbolic links and files that vanish."""
    for path in _content(folder):
        with suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink():
                yield path, path.stat().st_size


def _folders(folder: Path) -> list[Path]:
    return [path for path in _content(folder) if path.is_dir() and not path.is_symlink()]


def _content(folder: Path) -> list[Path]:
    try:
        return [] if folder.is_symlink() else sorted(folder.iterdir())
    # A training process may have deleted the folder in the meantime.
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(folder: Path) -> int:
    """Bytes of all files below a folder, without following symbolic links."""
    return sum(size for _, size in _files(folder)) + sum(map(_size, _folders(folder)))
