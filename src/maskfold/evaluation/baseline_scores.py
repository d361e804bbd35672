"""The baselines on record for a data set: written by baselines.py, read by evaluate."""

from pathlib import Path

from maskfold.data.images_table import Prepared
from maskfold.fileio import read_json, write_json
from maskfold.runs.run_folder import RunFolder

FILE = "baselines.json"


def write_ladder(prepared: Prepared, rungs: dict[str, dict]) -> Path:
    """Keep {name: scores} beside the data it was measured on; returns the file."""
    path = prepared.folder / FILE
    write_json(path, {"dataset": prepared.meta["fingerprint"], "rungs": rungs})
    return path


def best_rung(run: RunFolder) -> tuple[str, float] | None:
    """(name, macro F1) of the best baseline on record for a run's data, or None."""
    path = run.prepared_folder / FILE
    if not path.exists():
        return None
    again = "run scripts/baselines.py again"
    held = read_json(path, again)
    if held["dataset"] != run.provenance["dataset"]:
        return None
    return max(((name, rung["macro_f1"]) for name, rung in held["rungs"].items()), key=lambda pair: pair[1])
