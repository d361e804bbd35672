"""Mirror metrics.jsonl to Weights & Biases. No W&B error may stop or change a run."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskfold.config.experiment import Config
from maskfold.errors import first_line
from maskfold.fileio import read_json_or_none, write_json
from maskfold.metrics.confusion import confusion_matrices, most_confident_errors
from maskfold.metrics.scores import scores
from maskfold.places import can_be_path
from maskfold.probabilities import OutOfFold
from maskfold.runs.wandb_settings import (
    destination,
    has_key,
    hide_unknown_variables,
    init_settings,
    public_config,
    restart_service,
    session_settings,
    staging_dir,
    wanted_mode,
)

# By default W&B waits for its server for minutes. With these limits it gives up after about 20 s; see UNREACHED.
SECONDS_TO_CONNECT = SECONDS_TO_FINISH = 15
# This file in the run folder marks W&B as unreachable, so that the other folds do not wait for it. The next start of
# the run deletes the file.
UNREACHED = ".wandb-unreached"
RECORD = "wandb.json"
SECONDS = ("seconds", "start_seconds")


class WandbLogger:
    """Logs one fold or the refit as one W&B run, in a group named after the run. With silent=True, nothing is logged.

    wandb.json in the part's folder records the id of the W&B run, so that a resumed part continues the same W&B run. It
    also records the folder of an offline run, the seconds spent in starting W&B, and the seconds in all other calls.
    """

    def __init__(self, config: Config, folder: Path, part: str, history: Sequence[dict] = (), silent: bool = False):
        self._path, self._marker = folder / part / RECORD, folder / UNREACHED
        # A wandb.Run, None before it starts and after any error.
        self._run: Any = None
        self._sends_photos = config.run.wandb_photos
        self._run_dir: str | None = None
        self._offline = True  # set when the run starts; before that, there is nothing to upload
        mode = "disabled" if silent else wanted_mode(config.run)
        if mode == "disabled":
            return
        if mode == "online" and not has_key():
            mode = "offline"  # without a key W&B would prompt for one and block
            text = "W&B: the mode online needs an API key, so the run is logged offline; add a key with `wandb login`"
            print(text, file=sys.stderr)
        mode = "offline" if mode == "online" and self._marker.exists() else mode
        self._record: dict[str, Any] = {"id": os.urandom(6).hex(), "offline": None} | dict.fromkeys(SECONDS, 0.0)
        kinds = {"id": str, "offline": str} | dict.fromkeys(SECONDS, float)
        stored = read_json_or_none(self._path) or {}
        self._record |= {key: stored[key] for key, kind in kinds.items() if isinstance(stored.get(key), kind)}
        # Computed before the WANDB_ variables are hidden, because they may give the project, the entity and the tags.
        options = destination(config.run) | {"group": folder.name, "name": f"{folder.name}-{part}"}
        options["config"] = public_config(config) | {"part": part}
        with hide_unknown_variables():
            self._try(lambda: self._start(options, folder, mode), "start_seconds")
        # Earlier epochs are logged again, because an offline run can't be resumed; an online run ignores known epochs.
        self._try(lambda: [self._run.log(row, step=row["epoch"]) for row in history])

    def _start(self, options: dict, folder: Path, mode: str) -> None:
        import wandb

        provenance = read_json_or_none(folder / "provenance.json") or {}
        options["config"] |= {key: provenance.get(key) for key in ("git_commit", "dataset")}
        # An absolute path, because W&B's service process may have another working directory.
        options |= {"dir": str(folder.absolute()), "id": self._record["id"], "resume": "allow"}
        options["settings"] = init_settings(SECONDS_TO_CONNECT, SECONDS_TO_FINISH)
        # session_settings restarts the service if it was started in another environment.
        session_settings()
        try:
            self._run = wandb.init(mode=mode, **options)
        except wandb.Error as fault:
            if mode != "online":
                raise
            self._mark()
            print(f"W&B can't be reached ({first_line(fault)}); the run is logged offline", file=sys.stderr)
            # The service keeps the id of a run that it could not start.
            restart_service()
            self._run = wandb.init(mode="offline", **options)
        # A relative path, because the run folder may be moved.
        self._run_dir = os.path.relpath(Path(self._run.dir).parent, folder)
        self._offline = self._run.settings.mode == "offline"
        self._record["offline"] = self._run_dir if self._offline else None
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")

    def log(self, row: dict) -> None:
        """Log the metrics of one epoch."""
        self._try(lambda: self._run.log(row, step=row["epoch"]))

    def stop(self) -> None:
        """End the W&B run of a part that is not finished; the resumed part continues it."""
        self._try(lambda: self._run.finish(exit_code=1))
        self._run = None

    def finish(
        self, history: Sequence[dict], oof: OutOfFold | None, photo_of: Callable[[int], np.ndarray], upload_oof: bool
    ) -> None:
        """Log final values, confusion matrices and the most confident errors, and end the W&B run.

        oof: a fold's predictions, None for a refit; photo_of: row of oof -> uint8 RGB [H, W, 3]. upload_oof: whether
        oof.npz is uploaded as well.
        """
        with staging_dir(self._path.parents[1] / "wandb"):
            self._try(lambda: self._finish(history, oof, photo_of, upload_oof))
        self._run = None

    def _finish(self, history: Sequence[dict], oof: OutOfFold | None, photo_of, upload_oof: bool) -> None:
        import wandb

        if oof is not None:
            best = max(history, key=lambda row: row["macro_f1"])
            summary = {"best_macro_f1": best["macro_f1"], "best_epoch": best["epoch"]}
            self._run.summary.update(summary | scores(oof.label, oof.pred_labels))
            matrices = confusion_matrices(oof)
            tables = {f"confusion/{name}": wandb.Table(["true", *names], rows) for name, names, rows in matrices}
            self._run.summary.update(tables)
            self._log_errors(history[-1]["epoch"] + 1, oof, photo_of)
            if upload_oof:
                artifact = wandb.Artifact(f"oof-{self._record['id']}", "predictions")
                artifact.add_file(str(self._path.with_name("oof.npz")))
                self._run.log_artifact(artifact)
        self._run.finish()

    def _log_errors(self, step: int, oof: OutOfFold, photo_of: Callable[[int], np.ndarray]) -> None:
        """Log a table of the most confident errors as one more step after the last epoch.

        The column `row` is the photo's row in oof.npz. Photos and image ids identify people, so they are added only
        with run.wandb_photos.
        """
        import wandb

        errors = most_confident_errors(oof)
        columns = ["row", "true", "predicted", "probability"]
        rows: list[list] = [[row, *values] for row, _, *values in errors]
        if self._sends_photos and errors:
            pictures = [
                wandb.Image(photo_of(row), caption=f"{name}: {true}, not {predicted}")
                for row, name, true, predicted, _ in errors
            ]
            # The table stores its pictures in an artifact; this call also stores them as files in the W&B run's folder.
            self._run.log({"mistakes_photos": pictures}, step=step)
            files = [picture.to_json(self._run)["path"] for picture in pictures]
            columns = ["photo", "image_id", "file", *columns]
            names = [name for _, name, *_ in errors]
            rows = [[*cells, *row] for *cells, row in zip(pictures, names, files, rows, strict=True)]
        table = wandb.Table(columns, rows)
        self._run.log({"mistakes": table}, step=step)
        self._run.summary["mistakes"] = table

    def _try(self, call: Callable[[], object], seconds_key: str = "seconds") -> None:
        """Call W&B, and stop using it after any error. The time spent is added to `seconds_key` of the record."""
        if self._run is None and seconds_key != "start_seconds":
            return
        start = time.perf_counter()
        try:
            call()
        except Exception as fault:
            if self._run is not None and not self._offline:
                # Unsent data is in the folder of the W&B run. The mark keeps the other folds from waiting for W&B.
                self._record["offline"] = self._run_dir
                self._mark()
            self._run = None
            # Besides all later epochs, those of the last seconds before the failure may be missing.
            missing = f"the W&B run may lack epochs of {self._path.parent.name}; metrics.jsonl has all of them"
            print(f"W&B: {first_line(fault)}; training continues without W&B; {missing}", file=sys.stderr)
            restart_service()
        with contextlib.suppress(OSError):
            write_json(self._path, self._record)
        # The time includes write_json above, so it is saved only by the next call.
        self._record[seconds_key] += time.perf_counter() - start

    def _mark(self) -> None:
        with contextlib.suppress(OSError):
            self._marker.touch()


def offline_runs(folder: Path) -> list[Path]:
    """Return the folders of the W&B runs whose data was not uploaded, sorted by part. folder: the run folder."""
    values = [(read_json_or_none(record) or {}).get("offline") for record in sorted(folder.glob(f"*/{RECORD}"))]
    recorded = [Path(value) for value in values if isinstance(value, str) and can_be_path(value)]
    # Older versions recorded an absolute path, which is wrong if the run has been moved since.
    paths = [own if (own := folder / "wandb" / path.name).is_dir() else folder / path for path in recorded]
    # `wandb sync` writes a file *.wandb.synced next to the data that it has uploaded.
    return [path for path in paths if path.is_dir() and not any(path.glob("*.wandb.synced"))]
