"""Read submission files: check them against info.csv, or join them with known true labels."""

from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.data.catalog import read_info
from maskfold.data.cell_values import whole_number
from maskfold.data.name_matching import Names
from maskfold.data.raw_csv import EVAL_COLUMNS, raise_row_faults, read_table
from maskfold.errors import UserError
from maskfold.fileio import check_output
from maskfold.labels import NUM_CLASSES
from maskfold.locks import check_locks


def check_out(out: Path) -> None:
    """Raise UserError if no submission can be written to `out`. Call this before the predictions are computed."""
    if out.suffix != ".csv":
        raise UserError(f"--out {out}: not a .csv file; give a name that ends in .csv")
    check_output(out.parent, "--out", out)
    check_locks(out.parent)


def check_submission(path: Path, info: Path) -> pd.DataFrame:
    """Read a submission. Raises UserError unless it has the ids of info.csv in their order and labels 0..17."""
    info_ids = read_info(info, info.parent / "images").ImageID
    table = read_submission(path, as_uploaded=True)
    if len(table) != len(info_ids) or (table.ImageID.to_numpy() != info_ids.to_numpy()).any():
        raise UserError(f"{path}: its ImageIDs are not those of {info} in the same order; make the submission again")
    return table


def read_submission(path: Path, as_uploaded: bool = False) -> pd.DataFrame:
    """Read a CSV of ImageID (text) and ans (int).

    as_uploaded: accept only labels that a leaderboard accepts, such as 3 but not 3.0. Raises UserError for duplicate
    ids and for labels other than 0..17; the message lists them.
    """
    faults: list[str] = []
    table = read_table(path, EVAL_COLUMNS, faults=faults, names_exist=_has_ascii_names)
    labels = list(map(whole_number, table.ans))
    line_by_id: dict[str, int] = {}
    for line, name, cell, label in zip(table.index, table.ImageID, table.ans, labels, strict=True):
        where, first_line = f"{path} line {line}", line_by_id.setdefault(name, line)
        if label not in range(NUM_CLASSES) or (as_uploaded and cell != str(label)):
            faults.append(f"{where}: ans {cell!r} is not valid; use an integer from 0 to {NUM_CLASSES - 1}")
        if first_line != line:
            faults.append(f"{where}: ImageID {name} is already listed in line {first_line}; delete one of the rows")
    raise_row_faults(path, faults)
    return table.assign(ans=np.array(labels, int))


def _has_ascii_names(table: pd.DataFrame) -> bool:
    """Whether all ids are ASCII, so that the encoding of the file does not change them."""
    return all(map(str.isascii, table.ImageID))


def load_true_and_submitted(submission: Path, truth: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (true labels, submitted labels), int [N] each, joined by id. Raises UserError if the ids differ."""
    submitted, true = read_submission(submission), read_submission(truth)
    names = Names(true.ImageID)
    matched = submitted.ImageID.map(names.find)
    missing = set(true.ImageID) - set(matched)
    if missing or len(matched) != len(true):
        unknown, example = submitted.ImageID[matched.isna()], ""
        if len(unknown):
            example = f", such as {unknown.iloc[0]} in line {unknown.index[0]}{names.hint(unknown.iloc[0])}"
        raise UserError(
            f"{submission}: its ImageIDs are not those of {truth} ({len(missing)} of {len(true)} are missing, "
            f"{len(unknown)} are unknown{example}); give the true labels of the same eval set"
        )
    joined = submitted.assign(ImageID=matched).merge(true, on="ImageID", suffixes=("_submitted", "_true"))
    return joined.ans_true.to_numpy(), joined.ans_submitted.to_numpy()
