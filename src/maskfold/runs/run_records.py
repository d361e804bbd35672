"""The content of provenance.json and metrics.jsonl in a run folder."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from maskfold.errors import UserError, first_line
from maskfold.fileio import check_readable
from maskfold.json_record import JsonRecord, check_record

# With more people, the simulation of a new eval set would not fit into memory.
MAX_EVAL_PEOPLE = 1_000_000


class Provenance(JsonRecord):
    """The keys of provenance.json that are read."""

    dataset: str
    identity: str
    eval_people: Annotated[int, Field(ge=0, le=MAX_EVAL_PEOPLE)]
    config_hash: str
    config_sha256: str
    versions: dict[str, str | None] = Field(default_factory=dict)
    weights: dict[str, str] = Field(default_factory=dict)


class EpochRow(JsonRecord):
    """A row of metrics.jsonl. All its values are numbers; metrics are NaN or infinite if the training diverged."""

    __pydantic_extra__: dict[str, Annotated[float, Field(allow_inf_nan=True)]]

    epoch: Annotated[int, Field(ge=1, le=1_000_000)]
    seconds: Annotated[float, Field(gt=0)]
    images_per_second: Annotated[float, Field(ge=0)]


class ScoredEpochRow(EpochRow):
    """A row of a fold. Unlike the refit, a fold has validation scores."""

    macro_f1: Annotated[float, Field(ge=0, le=1)]


def read_epoch_rows(path: Path, has_scores: bool, fix: str) -> list[dict]:
    """Read metrics.jsonl. has_scores: whether each row must have macro_f1.

    Raises UserError, whose message ends with `fix`, if the file is missing or damaged.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, RecursionError) as fault:
        check_readable(path)
        raise UserError(f"{path}: not readable ({first_line(fault)}); {fix}") from fault
    if not rows:
        raise UserError(f"{path}: contains no epoch; {fix}")
    for row in rows:
        check_record(path, row, ScoredEpochRow if has_scores else EpochRow, fix)
    return rows
