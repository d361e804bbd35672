"""The run folder: what it holds, who may write it, and how a stopped run goes on."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from maskfold.config.config_file import config_text, load_config
from maskfold.config.experiment import Config, config_hash, fixed_values
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError, first_line, indented_list
from maskfold.fileio import locked, read_json, sha256, write_json, write_text
from maskfold.format_version import KEY, RUN, check_format
from maskfold.probabilities import OutOfFold
from maskfold.runs.code_state import code_state

# The last character of a name is no dot, which some systems drop.
FULL = "full"
NAME = re.compile(r"\w([\w.+-]*[\w+-])?", re.UNICODE)


def fold_name(fold: int) -> str:
    return f"fold{fold}"


def fold_of(part: str) -> int | None:
    """The fold of a part's name; None for the refit and for any other name."""
    match = re.fullmatch(r"fold(\d+)", part)
    return int(match[1]) if match else None


def runs_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Where run folders go: SM_MODEL_DIR where it is set, else runs/."""
    return Path(environ.get("SM_MODEL_DIR") or "runs")


def find_run(given: Path) -> Path:
    """A run folder by its path, or by its name under runs_root().

    Raises UserError where there is none, and for one whose provenance.json is broken or of a newer format.
    """
    for folder in (given, runs_root() / given):
        if (folder / "config.yaml").is_file():
            read_provenance(folder)
            return folder
    there = sorted(str(path.parent) for path in runs_root().glob("*/config.yaml"))
    raise UserError(
        f"{given}: no run folder (it has no config.yaml); there are {', '.join(there) or 'none yet: train one first'}"
    )


def read_provenance(folder: Path) -> dict:
    """What a run was started with: data fingerprint, eval people, config hash, git commit, versions, threads.

    Whatever opens a run reads it first. Raises UserError where it is missing, broken or of a newer format.
    """
    path, mend = folder / "provenance.json", "start the run again with --fresh"
    content = read_json(path, mend)
    check_format(path, content, RUN, mend)
    if missing := {"dataset", "identity", "eval_people", "config_hash", "config_sha256"} - content.keys():
        raise UserError(f"{path}: {min(missing)} is missing; {mend}")
    return content


class RunFolder:
    """One run on disk."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def name(self) -> str:
        return self.folder.name

    def part_dir(self, part: str) -> Path:
        return self.folder / part

    def lock(self):
        return locked(
            self.folder, f"{self.folder}: another process is writing this run; wait for it, or give another --name"
        )

    @property
    def config(self) -> Config:
        return load_config(self.folder / "config.yaml")

    @property
    def prepared_folder(self) -> Path:
        """The data that the run was trained on. Raises UserError where config.yaml no longer names it."""
        folder = self.config.data.prepared
        if folder is None:
            path = self.folder / "config.yaml"
            raise UserError(f"{path}: data.prepared is missing; restore the file, or start again with --fresh")
        return folder

    @property
    def provenance(self) -> dict:
        """What the run was started with; raises what read_provenance does."""
        return read_provenance(self.folder)

    @property
    def started(self) -> bool:
        return (self.folder / "config.yaml").exists()

    def finished(self, part: str) -> bool:
        if part == FULL:
            return self.weights_path(part).exists() and not self.state_path(part).exists()
        return (self.part_dir(part) / "oof.npz").exists()

    @property
    def finished_folds(self) -> list[int]:
        folds = (fold_of(path.parent.name) for path in self.folder.glob("*/oof.npz"))
        return sorted(fold for fold in folds if fold is not None)

    @property
    def finished_parts(self) -> list[str]:
        """The folds in order, then the refit on everybody if it is there."""
        return [fold_name(fold) for fold in self.finished_folds] + ([FULL] if self.finished(FULL) else [])

    def check_same(self, config: Config, prepared: Prepared) -> None:
        """Raises UserError where the started run's configuration or data differ from these."""
        self.check_unedited()
        ways = "give another --name, or delete the run and start again with --fresh"
        old, new = fixed_values(self.config), fixed_values(config)
        differing = [f"{key}: started with {old[key]}, asked for {new[key]}" for key in old if old[key] != new[key]]
        if differing:
            raise UserError(
                f"{self.folder} was started with another configuration; {ways}:\n{indented_list(differing)}"
            )
        if self.provenance["identity"] != prepared.identity:
            raise UserError(
                f"{self.folder}: the data or folds in {prepared.folder} have changed since this run was started; {ways}"
            )

    def check_unedited(self) -> None:
        """Raises UserError where config.yaml is not what the run was started with."""
        path = self.folder / "config.yaml"
        # By the file, not by the keys: a run outlives a schema that gets new ones.
        if self.provenance["config_sha256"] != sha256(path):
            raise UserError(f"{path}: was edited since the run was started; restore it, or start again with --fresh")

    def start(self, config: Config, prepared: Prepared, threads: int) -> None:
        """Write provenance.json and config.yaml. threads: those of each process."""
        data = {"dataset": prepared.meta["fingerprint"], "identity": prepared.identity}
        data["eval_people"] = prepared.num_eval_people
        text = config_text(config)
        hashes = {"config_hash": config_hash(config), "config_sha256": hashlib.sha256(text.encode()).hexdigest()}
        write_json(self.folder / "provenance.json", {KEY: RUN, **data, **hashes, **code_state(), "threads": threads})
        # Last: a run is started once its config is there.
        write_text(self.folder / "config.yaml", text)

    def clear(self) -> None:
        """Delete all but the lock, which this process holds. Raises UserError for a folder that is no run's."""
        strange = [path.name for path in self.folder.iterdir() if path.name not in (".lock", "provenance.json")]
        if strange and not self.started:
            raise UserError(f"{self.folder}: holds {min(strange)} and is no run folder; give another --name")
        (self.folder / "config.yaml").unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()

    # A part (a fold, or everybody) on its way

    def state_path(self, part: str) -> Path:
        return self.part_dir(part) / "state" / "last.pt"

    def weights_path(self, part: str) -> Path:
        return self.part_dir(part) / "model.safetensors"

    def write_metrics(self, part: str, history: list[dict]) -> None:
        """metrics.jsonl, an object an epoch, from the checkpoint's own list: no epoch is missing or there twice."""
        write_text(self.part_dir(part) / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))

    def read_metrics(self, part: str) -> list[dict]:
        path = self.part_dir(part) / "metrics.jsonl"
        mend = f"delete {path.parent} and train {part} again"
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as fault:
            raise UserError(f"{path}: not readable ({first_line(fault)}); {mend}") from fault
        wanted = {"epoch", "seconds", "images_per_second"} | ({"macro_f1"} if part != FULL else set())
        if not rows or any(not isinstance(row, dict) or wanted - row.keys() for row in rows):
            raise UserError(f"{path}: an object an epoch with {', '.join(sorted(wanted))} is expected; {mend}")
        return rows

    def finish(self, part: str, oof: OutOfFold | None) -> None:
        """The last step of a part: a fold is finished with its oof.npz, the refit when its state is gone."""
        if oof is not None:
            oof.save(self.part_dir(part) / "oof.npz")
        self.state_path(part).unlink(missing_ok=True)
        shutil.rmtree(self.state_path(part).parent, ignore_errors=True)
