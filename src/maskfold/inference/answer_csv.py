"""Submission files read back: checked against info.csv, or joined with a known truth."""

from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.data.raw_csv import EVAL_COLUMNS, read_table
from maskfold.errors import UserError
from maskfold.labels import NUM_CLASSES


def check_submission(path: Path, info: Path) -> pd.DataFrame:
    """Read a submission. Raises UserError where it is not exactly info.csv's ids in its order with answers 0..17."""
    wanted = read_table(info, EVAL_COLUMNS).ImageID
    table = read_answers(path)
    if len(table) != len(wanted) or (table.ImageID.to_numpy() != wanted.to_numpy()).any():
        raise UserError(f"{path}: its ImageIDs are not those of {info} in their order")
    return table


def read_answers(path: Path) -> pd.DataFrame:
    """A CSV of ImageID and ans. Raises UserError for ids twice and answers that are no integers 0..17."""
    table = read_table(path, EVAL_COLUMNS)
    valid = table.ans.str.strip().isin([str(label) for label in range(NUM_CLASSES)])
    if not valid.all():
        line = int(np.flatnonzero(~valid)[0]) + 2
        raise UserError(
            f"{path} line {line}: ans {table.ans[line - 2]!r}; an integer from 0 to {NUM_CLASSES - 1} is expected"
        )
    if table.ImageID.duplicated().any():
        raise UserError(f"{path}: ImageID {table.ImageID[table.ImageID.duplicated()].iloc[0]} is there twice; keep one")
    return table.astype({"ans": int})


def with_truth(submission: Path, truth: Path) -> tuple[np.ndarray, np.ndarray]:
    """(true, submitted) labels joined by id. Raises UserError where the two files hold different ids."""
    said, true = read_answers(submission), read_answers(truth)
    if set(said.ImageID) != set(true.ImageID):
        missing = len(set(true.ImageID) - set(said.ImageID))
        raise UserError(
            f"{submission}: holds other ImageIDs than {truth} ({missing} of {len(true)} are missing); give its truth"
        )
    joined = said.merge(true, on="ImageID", suffixes=("_said", "_true"))
    return joined.ans_true.to_numpy(), joined.ans_said.to_numpy()
