"""The recorded baseline scores of a data set: written by baselines.py, read by evaluate.py."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from maskfold.data.images_table import Prepared
from maskfold.fileio import read_json, write_json
from maskfold.json_record import JsonRecord, check_record

BASELINES_FILE, RERUN_BASELINES = "baselines.json", "run scripts/baselines.py again"


class BaselineRecord(JsonRecord):
    """The score of a baseline."""

    macro_f1: float


class Baselines(JsonRecord):
    """The content of baselines.json."""

    dataset: str
    rungs: Annotated[dict[str, BaselineRecord], Field(min_length=1)]


def write_baselines(path: Path, prepared: Prepared, scores_by_name: dict[str, dict]) -> None:
    """Write the scores of each baseline; evaluate.py looks for the file in the prepared folder and in --cache."""
    write_json(path, {"dataset": prepared.meta["fingerprint"], "rungs": scores_by_name})


def best_baseline(prepared: Prepared | None) -> tuple[str, float] | None:
    """Return (name, macro F1) of the recorded baseline with the highest macro F1; None if none is recorded.

    prepared: the data that the baselines were scored on, or None if it was not found. The result is then None too.
    """
    if prepared is None:
        return None
    for folder in prepared.places.cache.folders(prepared.folder):
        path = folder / BASELINES_FILE
        if not path.is_file():
            continue
        content = read_json(path, RERUN_BASELINES)
        check_record(path, content, Baselines, RERUN_BASELINES)
        if content["dataset"] == prepared.meta["fingerprint"]:
            baselines = content["rungs"].items()
            return max(((name, scores["macro_f1"]) for name, scores in baselines), key=lambda pair: pair[1])
    return None
