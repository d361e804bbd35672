"""Mirrors metrics.jsonl to Weights & Biases. The run folder is the truth: nothing here may stop or change a run."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskfold.config.experiment import Config
from maskfold.errors import first_line
from maskfold.fileio import write_json
from maskfold.metrics.confusion import confusions, worst_mistakes
from maskfold.metrics.scores import scores
from maskfold.probabilities import OutOfFold
from maskfold.runs.wandb_settings import (
    destination,
    has_key,
    init_settings,
    known_variables_only,
    public_config,
    restart,
    session_settings,
    staged_in,
    wanted_mode,
)

# At most so long, and then never again in this run, 20 s with what W&B adds: its own waits go on for minutes.
SECONDS_TO_CONNECT = SECONDS_TO_FINISH = 15
# Left in the run's folder, until its next start, once W&B could not be reached: no other fold waits for it then.
UNREACHED = ".wandb-unreached"
RECORD = "wandb.json"


class Tracker:
    """One W&B run a fold (or refit), grouped by the run's name; a silent one does nothing.

    `seconds` spent in W&B, and in starting it, are kept in the part's wandb.json, with the run's id, by which a part
    that is gone on with continues its run, and the folder of an offline run.
    """

    def __init__(self, config: Config, folder: Path, part: str, history: Sequence[dict] = (), silent: bool = False):
        self._path, self._marker = folder / part / RECORD, folder / UNREACHED
        # A wandb.Run, None before it begins and after any fault.
        self._run: Any = None
        self._sends_photos = config.run.wandb_photos
        self._place: str | None = None
        self._offline = True  # known once a run has begun; nothing to send before
        mode = "disabled" if silent else wanted_mode(config.run)
        if mode == "disabled":
            return
        if mode == "online" and not has_key():
            # W&B would ask for one, and wait for the answer.
            print("W&B: online needs a key (`wandb login`); the run is kept offline", file=sys.stderr)
            mode = "offline"
        mode = "offline" if mode == "online" and self._marker.exists() else mode
        self._held: dict[str, Any] = {"id": os.urandom(6).hex(), "offline": None, "seconds": 0.0, "start_seconds": 0.0}
        kinds = {"id": str, "offline": str, "seconds": float, "start_seconds": float}
        known = _read(self._path)
        self._held |= {key: known[key] for key, kind in kinds.items() if isinstance(known.get(key), kind)}
        # Before the variables of W&B are hidden, of which it takes project, entity and tags.
        where = destination(config.run) | {"group": folder.name, "name": f"{folder.name}-{part}"}
        where["config"] = public_config(config) | {"part": part}
        with known_variables_only():
            self._try(lambda: self._start(where, folder, mode), "start_seconds")
        # Earlier epochs too: an offline run can't be gone on with, and of an online one W&B passes over what it has.
        self._try(lambda: [self._run.log(row, step=row["epoch"]) for row in history])

    def _start(self, where: dict, folder: Path, mode: str) -> None:
        import wandb

        provenance = _read(folder / "provenance.json")
        where["config"] |= {key: provenance.get(key) for key in ("git_commit", "dataset")}
        # Absolute: W&B's service writes, whose own folder is the one it was started in.
        where |= {"dir": str(folder.absolute()), "id": self._held["id"], "resume": "allow"}
        where["settings"] = init_settings(SECONDS_TO_CONNECT, SECONDS_TO_FINISH)
        # Not those of a session that began in another environment.
        session_settings()
        try:
            self._run = wandb.init(mode=mode, **where)
        except wandb.Error as fault:
            if mode != "online":
                raise
            self._mark()
            print(f"W&B can't be reached ({first_line(fault)}); the run is kept offline", file=sys.stderr)
            # The service holds on to the id of a run that it could not start.
            restart()
            self._run = wandb.init(mode="offline", **where)
        self._place, self._offline = str(Path(self._run.dir).parent), self._run.settings.mode == "offline"
        self._held["offline"] = self._place if self._offline else None
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")

    def log(self, row: dict) -> None:
        """One epoch's metrics."""
        self._try(lambda: self._run.log(row, step=row["epoch"]))

    def stop(self) -> None:
        """End before the part does, which goes on with the same W&B run later."""
        self._try(lambda: self._run.finish(exit_code=1))
        self._run = None

    def finish(
        self, history: Sequence[dict], oof: OutOfFold | None, photos: Callable[[int], np.ndarray], keep: bool
    ) -> None:
        """End with final and best values, confusion matrices, the worst mistakes and, if `keep`, the predictions.

        oof: a fold's predictions, None of a refit; photos: row of them -> uint8 RGB [H, W, 3].
        """
        with staged_in(self._path.parents[1] / "wandb"):
            self._try(lambda: self._finish(history, oof, photos, keep))
        self._run = None

    def _finish(self, history: Sequence[dict], oof: OutOfFold | None, photos, keep: bool) -> None:
        import wandb

        if oof is not None:
            best = max(history, key=lambda row: row["macro_f1"])
            summary = {"best_macro_f1": best["macro_f1"], "best_epoch": best["epoch"]}
            self._run.summary.update(summary | scores(oof.label, oof.pred_labels))
            tables = {f"confusion/{name}": wandb.Table(["true", *names], rows) for name, names, rows in confusions(oof)}
            self._run.summary.update(tables)
            self._log_mistakes(history[-1]["epoch"] + 1, oof, photos)
            if keep:
                artifact = wandb.Artifact(f"oof-{self._held['id']}", "predictions")
                artifact.add_file(str(self._path.with_name("oof.npz")))
                self._run.log_artifact(artifact)
        self._run.finish()

    def _log_mistakes(self, step: int, oof: OutOfFold, photos: Callable[[int], np.ndarray]) -> None:
        """The table of the worst mistakes, in a history row of its own, after those of metrics.jsonl.

        Its rows name rows of oof.npz. Photos and image ids, which tell who somebody is, are there by run.wandb_photos.
        """
        import wandb

        worst = worst_mistakes(oof)
        columns, rows = ["row", "true", "predicted", "probability"], [[at, *words] for at, _, *words in worst]
        if self._sends_photos and worst:
            pictures = [
                wandb.Image(photos(at), caption=f"{name}: {true}, not {said}") for at, name, true, said, _ in worst
            ]
            # A table keeps its pictures in an artifact; these are files of the run, which moves with its folder.
            self._run.log({"mistakes_photos": pictures}, step=step)
            files = [picture.to_json(self._run)["path"] for picture in pictures]
            columns = ["photo", "image_id", "file", *columns]
            names = [name for _, name, *_ in worst]
            rows = [[*seen, *row] for *seen, row in zip(pictures, names, files, rows, strict=True)]
        table = wandb.Table(columns, rows)
        self._run.log({"mistakes": table}, step=step)
        self._run.summary["mistakes"] = table

    def _try(self, call: Callable[[], object], counted: str = "seconds") -> None:
        """Call W&B, count the time, and go on without it after any fault."""
        if self._run is None and counted != "start_seconds":
            return
        start = time.perf_counter()
        try:
            call()
        except Exception as fault:
            if self._run is not None and not self._offline:
                # What was not sent lies there, and no other fold is to wait.
                self._held["offline"] = self._place
                self._mark()
            self._run = None
            # What W&B had been given seconds before may be lost too.
            missing = f"epochs of {self._path.parent.name} may be missing there, metrics.jsonl has all"
            print(f"W&B: {first_line(fault)}; training goes on without it: {missing}", file=sys.stderr)
            restart()
        with contextlib.suppress(OSError):
            write_json(self._path, self._held)
        # With the writing, which the next one puts on record.
        self._held[counted] += time.perf_counter() - start

    def _mark(self) -> None:
        with contextlib.suppress(OSError):
            self._marker.touch()


def offline_runs(folder: Path) -> list[str]:
    """Folders of the W&B runs of a run folder that are kept offline, in its parts' order."""
    found = []
    for path in sorted(folder.glob(f"*/{RECORD}")):
        found.append(_read(path).get("offline"))
    return [place for place in found if isinstance(place, str)]


def _read(path: Path) -> dict:
    """A JSON object; an empty one where there is none, or it is spoiled."""
    with contextlib.suppress(OSError, ValueError):
        held = json.loads(path.read_text(encoding="utf-8"))
        return held if isinstance(held, dict) else {}
    return {}
