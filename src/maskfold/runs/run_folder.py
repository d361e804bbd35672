"""The run folder: its files, its lock, and the checks before a run is resumed.

A run consists of parts: its folds (fold0, fold1, ...) and, with --refit, the refit on all people (full).
"""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from maskfold.config.experiment import Config, fixed_values, replaced
from maskfold.config.yaml_file import config_text, load_config
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError, indented_list
from maskfold.fileio import sha256, write_json, write_text
from maskfold.locks import locked
from maskfold.places import Places, absolute, can_be_path
from maskfold.probabilities import OutOfFold
from maskfold.runs.provenance import changed_weights, provenance_of, read_provenance
from maskfold.runs.run_records import read_epoch_rows

FULL = "full"
# The name of a run must not end with a dot, because some systems drop it.
NAME = re.compile(r"\w([\w.+-]*[\w+-])?", re.UNICODE)


def fold_name(fold: int) -> str:
    """The name of a fold's part: fold0, fold1, ..."""
    return f"fold{fold}"


def fold_of(part: str) -> int | None:
    """The fold number in a part's name; None for the refit and for other names."""
    match = re.fullmatch(r"fold(\d+)", part)
    return int(match[1]) if match else None


def runs_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for run folders: SM_MODEL_DIR if it is set, otherwise runs/."""
    return Path(environ.get("SM_MODEL_DIR") or "runs")


def find_run(path: Path) -> Path:
    """Find a run folder by its path, or by its name under runs_root().

    Raises UserError if there is no such run, or if its provenance.json is missing, damaged or of a newer format.
    """
    for folder in (path, runs_root() / path):
        if can_be_path(folder / "config.yaml") and (folder / "config.yaml").is_file():
            read_provenance(folder)
            return folder
    available = sorted(str(config.parent) for config in runs_root().glob("*/config.yaml"))
    fix = f"use one of {', '.join(available)}" if available else "there are no runs yet; train one first"
    raise UserError(f"{path}: not a run folder (it has no config.yaml); {fix}")


def check_distinct_names(runs: "Sequence[RunFolder]", flag: str, other_names: Sequence[str] = ()) -> None:
    """Raise UserError if two outputs would have the same name, so that one would overwrite the other.

    runs: the runs, each with an output that is named after it; other_names: the names of other outputs; flag: the flag
    that sets the folder of the outputs.
    """
    names = [*other_names, *(run.name for run in runs)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{flag}: two outputs would have the name {twice[0]}; rename a run folder, or leave out {flag}")


class RunFolder:
    """One run on disk. places: the paths that are set by flags of the command."""

    def __init__(self, folder: Path, places: Places | None = None):
        self.folder, self.places = folder, places or Places()

    @property
    def name(self) -> str:
        return absolute(self.folder).name

    def part_dir(self, part: str) -> Path:
        return self.folder / part

    def lock(self):
        """Lock the run against other processes. Raises UserError if another process holds the lock."""
        return locked(
            self.folder, f"{self.folder}: another process is writing this run; wait for it, or give another --name"
        )

    @property
    def config(self) -> Config:
        """The configuration of the run. Keys that are newer than the run have the value with which it was trained."""
        config = load_config(self.folder / "config.yaml")
        # Before this key was added, all photos were decoded at reduced size.
        return config if "decode" in config.data.model_fields_set else replaced(config, data={"decode": "reduced"})

    def cache_paths(self, name: str) -> list[Path]:
        """The possible paths of a cached file; a new file is written to the first. --cache has one folder per run."""
        folder = self.places.cache.folder
        return ([] if folder is None else [folder / self.cache_key / name]) + [self.folder / name]

    @property
    def cache_key(self) -> str:
        """The name of the run's own folder in the cache folder (--cache)."""
        return f"{self.name}-{self.provenance['config_sha256'][:8]}"

    @property
    def provenance(self) -> dict:
        """See read_provenance."""
        return read_provenance(self.folder)

    @property
    def started(self) -> bool:
        return (self.folder / "config.yaml").exists()

    def finished(self, part: str) -> bool:
        """Whether the training of a part (fold or refit) is finished."""
        if part == FULL:
            return self.weights_path(part).exists() and not self.state_path(part).exists()
        return (self.part_dir(part) / "oof.npz").exists()

    @property
    def finished_folds(self) -> list[int]:
        folds = (fold_of(path.parent.name) for path in self.folder.glob("*/oof.npz"))
        return sorted(fold for fold in folds if fold is not None)

    @property
    def finished_parts(self) -> list[str]:
        """The names of the finished folds in order, then of the refit if it is finished."""
        return [fold_name(fold) for fold in self.finished_folds] + ([FULL] if self.finished(FULL) else [])

    def check_same(self, config: Config, prepared: Prepared) -> None:
        """Raise UserError if config.yaml was edited, or data, weights files or fixed_values() differ from the run's."""
        self.check_unedited()
        fix = "give another --name, or delete the run and start again with --fresh"
        old, new = fixed_values(self.config), fixed_values(config)
        differing = [f"{key}: started with {old[key]}, now {new[key]}" for key in old if old[key] != new[key]]
        differing += changed_weights(self.provenance, config)
        has_same_data = self.provenance["identity"] == prepared.identity
        if differing:
            if not has_same_data:
                differing.append(f"data.prepared: the data or folds in {prepared.folder} are not those of this run")
            raise UserError(f"{self.folder} was started with another configuration; {fix}:\n{indented_list(differing)}")
        if not has_same_data:
            raise UserError(
                f"{self.folder}: the data or folds in {prepared.folder} have changed since this run was started, or "
                f"are not those of this run; give its prepared folder (--data.prepared), or {fix}"
            )

    def check_unedited(self) -> None:
        """Raise UserError if config.yaml has changed since the run was started."""
        path = self.folder / "config.yaml"
        # The file is compared, not its keys, so that a run stays valid when the schema gets new keys.
        if self.provenance["config_sha256"] != sha256(path):
            raise UserError(f"{path}: was edited since the run was started; restore it, or start again with --fresh")

    def start(self, config: Config, prepared: Prepared, threads: int) -> None:
        """Write provenance.json and config.yaml. threads: CPU threads per process."""
        text = config_text(config)
        write_json(self.folder / "provenance.json", provenance_of(config, text, prepared, threads))
        # Written last: a run counts as started once it has a config.yaml.
        write_text(self.folder / "config.yaml", text)

    def state_path(self, part: str) -> Path:
        """The path of the checkpoint from which an unfinished part is resumed."""
        return self.part_dir(part) / "state" / "last.pt"

    def weights_path(self, part: str) -> Path:
        return self.part_dir(part) / "model.safetensors"

    def write_metrics(self, part: str, history: list[dict]) -> None:
        """Write metrics.jsonl, one object per epoch.

        The file is rewritten from the checkpoint's history, so that no epoch is missing or duplicated after a resume.
        """
        write_text(self.part_dir(part) / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))

    def read_metrics(self, part: str) -> list[dict]:
        """Read metrics.jsonl, one object per epoch. Raises UserError if it is missing or damaged."""
        folder = self.part_dir(part)
        return read_epoch_rows(folder / "metrics.jsonl", part != FULL, f"delete {folder} and train {part} again")

    def finish(self, part: str, oof: OutOfFold | None) -> None:
        """Mark a part as finished: write a fold's oof.npz, and delete the checkpoint. oof: None for the refit."""
        if oof is not None:
            oof.save(self.part_dir(part) / "oof.npz")
        self.state_path(part).unlink(missing_ok=True)
        shutil.rmtree(self.state_path(part).parent, ignore_errors=True)
