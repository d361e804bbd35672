"""Mirrors metrics.jsonl to Weights & Biases. The run folder is the truth: nothing here may stop or change a run."""

import netrc
import os
import sys
from collections.abc import Callable
from pathlib import Path

from maskfold.config import Config, flatten

SECONDS_TO_CONNECT = 20


def has_key() -> bool:
    """Whether a W&B key is at hand: in the environment, or left by `wandb login` in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").partition("//")[2].partition("/")[0]
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class Tracker:
    """One W&B run a fold (or refit), grouped by the run's name; a silent one does nothing."""

    def __init__(self, config: Config, folder: Path, part: str, silent: bool = False):
        self._run = None
        if silent:
            return
        mode = config.run.wandb
        if mode == "auto":
            # WANDB_MODE is the user's own word; None leaves it to W&B.
            mode = None if os.environ.get("WANDB_MODE") else "online" if has_key() else "offline"
        if mode == "disabled" or os.environ.get("WANDB_MODE") == "disabled":
            return
        import wandb

        settings = wandb.Settings(init_timeout=SECONDS_TO_CONNECT, silent=True, console="off", x_disable_stats=True)
        options = {"project": "maskfold", "group": folder.name, "name": f"{folder.name}-{part}", "dir": str(folder)}
        flat = flatten(config.model_dump(mode="json")) | {"part": part}
        self._try(lambda: setattr(self, "_run", wandb.init(mode=mode, config=flat, settings=settings, **options)))

    def log(self, row: dict) -> None:
        """One epoch's metrics."""
        if self._run is not None:
            self._try(lambda: self._run.log(row, step=row["epoch"]))

    def finish(self, summary: dict) -> None:
        if self._run is not None:
            self._try(lambda: (self._run.summary.update(summary), self._run.finish()))

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as fault:
            self._run = None
            print(f"W&B: {fault}; training goes on without it", file=sys.stderr)
