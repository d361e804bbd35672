"""Read submission files: check them against info.csv, or join them with known true labels."""

from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.data.raw_csv import EVAL_COLUMNS, read_table
from maskfold.errors import UserError
from maskfold.labels import NUM_CLASSES


def check_submission(path: Path, info: Path) -> pd.DataFrame:
    """Read a submission. Raises UserError unless it has the ids of info.csv in their order and labels 0..17."""
    info_ids = read_table(info, EVAL_COLUMNS).ImageID
    table = read_submission(path)
    if len(table) != len(info_ids) or (table.ImageID.to_numpy() != info_ids.to_numpy()).any():
        raise UserError(f"{path}: its ImageIDs are not those of {info} in the same order; make the submission again")
    return table


def read_submission(path: Path) -> pd.DataFrame:
    """Read a CSV of ImageID (text) and ans (int). Raises UserError for duplicate ids and labels other than 0..17."""
    table = read_table(path, EVAL_COLUMNS)
    valid = table.ans.str.strip().isin([str(label) for label in range(NUM_CLASSES)])
    if not valid.all():
        line = int(np.flatnonzero(~valid)[0]) + 2
        raise UserError(
            f"{path} line {line}: ans {table.ans[line - 2]!r} is not valid; use an integer from 0 to {NUM_CLASSES - 1}"
        )
    if table.ImageID.duplicated().any():
        duplicate = table.ImageID[table.ImageID.duplicated()].iloc[0]
        raise UserError(f"{path}: ImageID {duplicate} is listed twice; delete one of the rows")
    return table.astype({"ans": int})


def load_true_and_submitted(submission: Path, truth: Path) -> tuple[np.ndarray, np.ndarray]:
    """(true labels, submitted labels), int [N] each, joined by id. Raises UserError for different sets of ids."""
    submitted, true = read_submission(submission), read_submission(truth)
    if set(submitted.ImageID) != set(true.ImageID):
        missing = len(set(true.ImageID) - set(submitted.ImageID))
        raise UserError(
            f"{submission}: its ImageIDs are not those of {truth} ({missing} of {len(true)} are missing); give the "
            "true labels of the same eval set"
        )
    joined = submitted.merge(true, on="ImageID", suffixes=("_submitted", "_true"))
    return joined.ans_true.to_numpy(), joined.ans_submitted.to_numpy()
