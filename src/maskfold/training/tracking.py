"""Mirrors metrics.jsonl to Weights & Biases. The run folder is the truth: nothing here may stop or change a run."""

import contextlib
import hashlib
import json
import netrc
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from maskfold.analysis.metrics import scores
from maskfold.analysis.mistakes import confusions, worst_mistakes
from maskfold.config import Config, Run, flatten
from maskfold.files import write_json
from maskfold.predictions import Predictions

# At most so long, and then never again in this run, 20 s with what W&B adds: its own waits go on for minutes.
SECONDS_TO_CONNECT = SECONDS_TO_FINISH = 15
# Left in the run's folder, until its next start, once W&B could not be reached: no other fold waits for it then.
UNREACHED = ".wandb-unreached"
RECORD = "wandb.json"


def has_key() -> bool:
    """Whether W&B can log in unasked: by the environment, or by what `wandb login` left in the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").partition("//")[2].partition("/")[0]
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, ValueError, netrc.NetrcParseError):
        return False


def wanted_mode(run: Run) -> str:
    """online, offline or disabled: of `auto`, WANDB_MODE's word, else online where there is a key."""
    said = os.environ.get("WANDB_MODE")
    if "disabled" in (said, run.wandb):
        return "disabled"
    return (said or ("online" if has_key() else "offline")) if run.wandb == "auto" else run.wandb


class Tracker:
    """One W&B run a fold (or refit), grouped by the run's name; a silent one does nothing.

    `seconds` spent in W&B, and in starting it, are kept in the part's wandb.json, with the run's id, by which a part
    that is gone on with continues its run, and the folder of an offline run.
    """

    def __init__(self, config: Config, folder: Path, part: str, history: Sequence[dict] = (), silent: bool = False):
        self._run, self._path, self._marker = None, folder / part / RECORD, folder / UNREACHED
        # Known once a run has begun; a fault before that leaves nothing to send.
        self._place, self._offline = None, True
        mode = "disabled" if silent else wanted_mode(config.run)
        if mode == "disabled":
            return
        if mode == "online" and not has_key():
            # W&B would ask for one, and wait for the answer.
            print("W&B: online needs a key (`wandb login`); the run is kept offline", file=sys.stderr)
            mode = "offline"
        mode = "offline" if mode == "online" and self._marker.exists() else mode
        self._held = {"id": _new_id(), "offline": None, "seconds": 0.0, "start_seconds": 0.0}
        kinds = {"id": str, "offline": str, "seconds": float, "start_seconds": float}
        known = _read(self._path)
        self._held |= {key: known[key] for key, kind in kinds.items() if isinstance(known.get(key), kind)}
        self._try(lambda: self._start(config, folder, part, mode), "start_seconds")
        # Earlier epochs too: an offline run can't be gone on with, and of an online one W&B passes over what it has.
        self._try(lambda: [self._run.log(row, step=row["epoch"]) for row in history])

    def _start(self, config: Config, folder: Path, part: str, mode: str) -> None:
        # Its reports on itself would be waited for once more as the program ends.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        wishes = {
            "init_timeout": SECONDS_TO_CONNECT,
            "finish_timeout": SECONDS_TO_FINISH,
            "finish_timeout_raises": True,
            "silent": True,
            "console": "off",
            "x_disable_stats": True,
        }
        # An older W&B has no finish_timeout.
        settings = wandb.Settings(**{key: of for key, of in wishes.items() if key in wandb.Settings.model_fields})
        where = {"project": "maskfold", "group": folder.name, "name": f"{folder.name}-{part}"}
        # Absolute: W&B's service writes, whose own folder is the one it was started in.
        where["dir"] = str(folder.absolute())
        where |= {"id": self._held["id"], "resume": "allow", "settings": settings}
        flat = flatten(config.model_dump(mode="json")) | {"part": part}
        flat |= {"git_commit": _read(folder / "provenance.json").get("git_commit")}
        try:
            self._run = wandb.init(mode=mode, config=flat, **where)
        except wandb.Error as fault:
            if mode != "online":
                raise
            self._mark()
            print(f"W&B can't be reached ({_first_line(fault)}); the run is kept offline", file=sys.stderr)
            # The service holds on to the id of a run that it could not start.
            _restart()
            self._run = wandb.init(mode="offline", config=flat, **where)
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
        self, history: Sequence[dict], oof: Predictions | None, photos: Callable[[int], np.ndarray], keep: bool
    ) -> None:
        """End with final and best values, confusion matrices, the worst mistakes and, if `keep`, the predictions.

        oof: a fold's predictions, None of a refit; photos: row of them -> uint8 RGB [H, W, 3].
        """
        self._try(lambda: self._finish(history, oof, photos, keep))
        self._run = None

    def _finish(self, history: Sequence[dict], oof: Predictions | None, photos, keep: bool) -> None:
        import wandb

        if oof is not None:
            best = max(history, key=lambda row: row["macro_f1"])
            summary = {"best_macro_f1": best["macro_f1"], "best_epoch": best["epoch"]}
            self._run.summary.update(summary | scores(oof.label, oof.answers))
        if oof is not None:
            tables = {f"confusion/{name}": wandb.Table(["true", *names], rows) for name, names, rows in confusions(oof)}
            columns = ["photo", "image_id", "true", "answer", "probability"]
            rows = [[wandb.Image(photos(at)), *words] for at, *words in worst_mistakes(oof)]
            # Beside the epochs, whose rows stay those of metrics.jsonl.
            self._run.summary.update(tables | {"mistakes": wandb.Table(columns, rows)})
        if keep and oof is not None:
            artifact = wandb.Artifact(f"oof-{self._held['id']}", "predictions")
            artifact.add_file(str(self._path.with_name("oof.npz")))
            self._run.log_artifact(artifact)
        self._run.finish()

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
            print(f"W&B: {_first_line(fault)}; training goes on without it: {missing}", file=sys.stderr)
            _restart()
        with contextlib.suppress(OSError):
            write_json(self._path, self._held)
        # With the writing, which the next one puts on record.
        self._held[counted] += time.perf_counter() - start

    def _mark(self) -> None:
        with contextlib.suppress(OSError):
            self._marker.touch()


def _restart() -> None:
    """Let go of a W&B service that died, so that the next fold starts another, and the program ends in peace."""
    with contextlib.suppress(Exception):
        import wandb

        wandb.teardown(exit_code=1)


def _new_id() -> str:
    return hashlib.sha256(os.urandom(16)).hexdigest()[:12]


def _first_line(fault: Exception) -> str:
    return (str(fault).strip().splitlines() or [type(fault).__name__])[0]


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
