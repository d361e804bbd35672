"""The submissions on record that can be compared for the final choice: their scores and their predicted labels."""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maskfold.errors import UserError, one_line
from maskfold.fileio import sha256
from maskfold.inference.submission_csv import read_submission
from maskfold.inference.submission_index import INDEX_FILE, SUBMISSION_COLUMNS, read_index
from maskfold.metrics.final_choice import KnownScores
from maskfold.places import can_be_path

NO_SCORE = "without an expected score: an older version made it, or the eval set has too few photos"
INVALID = f"a score in its row of {INDEX_FILE} is not valid"
MISSING = "its CSV is missing"
CHANGED = "its CSV has changed since it was made"
OTHER_PHOTOS = "its ImageIDs are not those of the other submissions"


@dataclass(frozen=True)
class ComparableSubmissions:
    """Submissions with different labels for the same photos.

    table: their rows in the index, the best expected score first. labels: int [n, N], the labels that n submissions
    predict for N photos, which are in the same order for all. messages: which submissions are left out, and why.
    """

    table: pd.DataFrame
    labels: np.ndarray
    messages: list[str]

    @property
    def known_scores(self) -> KnownScores:
        columns = (["submission_low", "submission_high"], ["submission_half_low", "submission_half_high"])
        interval95, half95 = (self.table[names].to_numpy(float) for names in columns)
        expected, public = (self.table[name].to_numpy(float) for name in ("expected_submission", "board_score"))
        return KnownScores(expected, interval95, half95, public)


def submissions_on_record(folder: Path) -> pd.DataFrame:
    """Read the index of a folder, sorted by expected score, the best first.

    Submissions without an expected score, such as those of older versions, come last. Raises UserError if the index is
    damaged or lists no submission.
    """
    table = read_index(folder)
    if table.empty:
        raise UserError(
            f"{folder / INDEX_FILE}: no submission is on record; make one with submit.py, or give the folder of the "
            "submissions with --submissions"
        )
    order = ["expected_submission", "expected_macro_f1", "name"]
    return table.sort_values(order, ascending=[False, False, True], kind="stable", ignore_index=True)


def comparable_submissions(folder: Path) -> ComparableSubmissions:
    """Read the submissions of a folder that can be compared.

    Submissions are left out if they have no expected score or an invalid score, if their CSV is missing, invalid or
    changed, or if they do not have the most common set of ImageIDs. If several submissions have the same labels, only
    one of them is kept. Raises UserError if none is left.
    """
    table = submissions_on_record(folder)
    names_by_reason: dict[str, list[str]] = defaultdict(list)
    rows_by_ids: dict[tuple[str, ...], list[int]] = defaultdict(list)
    labels_by_row: dict[int, np.ndarray] = {}
    for row in table.itertuples():
        path = folder / f"{row.name}.csv"
        reason = _score_fault(row) or _file_fault(path, row.csv_sha256)
        if reason is None:
            try:
                submission = read_submission(path).sort_values("ImageID")
            except UserError as error:
                reason = one_line(error)
            else:
                rows_by_ids[tuple(submission.ImageID)].append(row.Index)
                labels_by_row[row.Index] = submission.ans.to_numpy()
        if reason is not None:
            names_by_reason[reason].append(row.name)
    # If two sets of ImageIDs have equally many submissions, the set of the newest submission is chosen.
    comparable = max(rows_by_ids.values(), key=lambda rows: (len(rows), table.created[rows].max()), default=[])
    if others := [row for row in labels_by_row if row not in comparable]:
        names_by_reason[OTHER_PHOTOS] += table["name"][others].tolist()
    left_out = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in names_by_reason.items())
    if not comparable:
        raise UserError(
            f"{folder / INDEX_FILE}: no submission on record can be compared: {left_out}; make the submissions again "
            "with submit.py"
        )
    messages = []
    if left_out:
        messages.append(
            f"warning: left out of the comparison: {left_out}; to include a submission, make it again with submit.py"
        )
    kept, notes = _without_equal_labels(table, {row: labels_by_row[row] for row in comparable})
    labels = np.stack([labels_by_row[row] for row in kept])
    return ComparableSubmissions(table.loc[kept].reset_index(drop=True), labels, messages + notes)


def _score_fault(row: Any) -> str | None:
    """Why the scores of a row of the index cannot be used; None if they can."""
    scores = [getattr(row, name) for name in SUBMISSION_COLUMNS]
    if np.isnan(scores).any():
        return NO_SCORE
    expected, low, high, half_low, half_high = scores
    are_valid = 0 <= low <= expected <= high <= 1 and 0 <= half_low <= expected <= half_high <= 1
    return None if are_valid and not (row.board_score < 0 or row.board_score > 1) else INVALID


def _file_fault(path: Path, csv_sha256: str) -> str | None:
    """Why a CSV is not the file that submit.py wrote; None if it is."""
    try:
        if not can_be_path(path) or not path.is_file():
            return MISSING
        return None if sha256(path) == csv_sha256 else CHANGED
    except OSError as error:
        return f"its CSV cannot be read: {os.strerror(error.errno or 0)}"


def _without_equal_labels(table: pd.DataFrame, labels_by_row: dict[int, np.ndarray]) -> tuple[list[int], list[str]]:
    """Return (one row of each group with the same labels, notes on the other rows).

    The newest row with a leaderboard score is kept, or the newest row if none has a leaderboard score.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row, labels in labels_by_row.items():
        groups[labels.tobytes()].append(row)
    kept, notes = [], []
    for rows in groups.values():
        counted = max(rows, key=lambda row: (not np.isnan(table.board_score[row]), table.created[row]))
        kept.append(counted)
        if equal := [table["name"][row] for row in rows if row != counted]:
            have = "has" if len(equal) == 1 else "have"
            notes.append(
                f"note: {', '.join(equal)} {have} the same labels as {table['name'][counted]}, so only "
                f"{table['name'][counted]} counts"
            )
    return sorted(kept), notes
