"""submissions/index.csv: every submission with its expected score and its score on the leaderboard."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskfold.data.cell_values import decimal_number
from maskfold.data.raw_csv import read_table
from maskfold.errors import UserError, did_you_mean
from maskfold.fileio import write_csv
from maskfold.locks import locked
from maskfold.metrics.score_text import ci_text

if TYPE_CHECKING:
    import pandas as pd

INDEX_FILE = "index.csv"
TEXT_COLUMNS = ("name", "created", "members", "tta", "csv_sha256")
OLD_NUMBER_COLUMNS = (
    "expected_macro_f1",
    "ci_low",
    "ci_high",
    "board_low",
    "board_high",
    "board_half_low",
    "board_half_high",
    "board_score",
)
# Files of older versions do not have these columns.
SUBMISSION_COLUMNS = (
    "expected_submission",
    "submission_low",
    "submission_high",
    "submission_half_low",
    "submission_half_high",
)
NUMBER_COLUMNS = (*OLD_NUMBER_COLUMNS, *SUBMISSION_COLUMNS)
INDEX_COLUMNS = (*TEXT_COLUMNS[:4], *NUMBER_COLUMNS, TEXT_COLUMNS[4])
# A correlation of fewer scores would be meaningless.
MIN_SCORES_FOR_CORRELATION = 3


def submissions_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for submissions: SM_OUTPUT_DATA_DIR if it is set, otherwise submissions/."""
    return Path(environ.get("SM_OUTPUT_DATA_DIR") or "submissions")


def read_index(folder: Path) -> pd.DataFrame:
    """Read a folder's index, or return an empty one if there is none. Raises UserError if the file is not an index."""
    import pandas as pd

    path = folder / INDEX_FILE
    if not path.exists():
        return pd.DataFrame({name: pd.Series(dtype=str if name in TEXT_COLUMNS else float) for name in INDEX_COLUMNS})
    fix = "or move the file to another folder to begin a new index"
    try:
        table = read_table(path, INDEX_COLUMNS, may_be_empty=True, optional=SUBMISSION_COLUMNS)
    except UserError as error:
        raise UserError(f"{error}; {fix}") from None
    for name in NUMBER_COLUMNS:
        cells = table[name].tolist()
        numbers = {cell: decimal_number(cell) for cell in set(cells)}
        for line, cell in zip(table.index, cells, strict=True):
            if numbers[cell] is None:
                raise UserError(
                    f"{path} line {line}: {name} {cell!r} is not a number; write one, such as 0.7751, {fix}"
                )
        table[name] = [numbers[cell] for cell in cells]
    return table.reset_index(drop=True)


def add_to_index(folder: Path, manifest: dict) -> None:
    """Add a submission, replacing one of the same name. A recorded leaderboard score is kept if the CSV is the same."""
    import pandas as pd

    row = _row_of(manifest)
    with locked(folder):
        table = read_index(folder)
        replaced = table[table["name"] == row["name"]]
        same_csv = replaced[replaced.csv_sha256 == row["csv_sha256"]]
        row["board_score"] = same_csv.board_score.iloc[0] if len(same_csv) else np.nan
        rows = [*table.drop(replaced.index).to_dict("records"), row]
        _write(folder, pd.DataFrame(rows, columns=INDEX_COLUMNS))


def _row_of(manifest: dict) -> dict[str, Any]:
    """The row of a submission in the index, without the leaderboard score."""
    expected = manifest["expected"]
    row = {"name": manifest["name"], "created": manifest["created"], "csv_sha256": manifest["csv_sha256"]}
    row |= {"members": " ".join(member["run"] for member in manifest["members"]), "tta": " ".join(manifest["tta"])}
    row["expected_macro_f1"] = expected["macro_f1"]
    submission = expected.get("submission") or {}
    row["expected_submission"] = submission.get("macro_f1", np.nan)
    intervals = {
        "ci": expected["macro_f1_ci95"],
        "board": expected["board95"],
        "board_half": expected["board_half95"],
        "submission": submission.get("interval95"),
        "submission_half": expected.get("submission_half95"),
    }
    for name, bounds in intervals.items():
        row[f"{name}_low"], row[f"{name}_high"] = bounds or (np.nan, np.nan)
    return row


def has_valid_row(folder: Path, manifest: dict) -> bool:
    """Whether the index has the row that add_to_index would write, and is not damaged elsewhere.

    Does not import pandas. Also returns False if a spreadsheet program has saved the index with rounded numbers.
    """
    try:
        with (folder / INDEX_FILE).open(encoding="utf-8", newline="") as file:
            names, *rows = csv.reader(file, strict=True)
        expected = _row_of(manifest)
        # Raises ValueError for a row that lacks cells or has too many.
        cells_by_row = [dict(zip(INDEX_COLUMNS, row, strict=True)) for row in rows]
        numbers_by_row = [[decimal_number(cells[name]) for name in NUMBER_COLUMNS] for cells in cells_by_row]
        [cells] = [cells for cells in cells_by_row if cells["name"] == expected["name"]]
        same_numbers = all(
            np.array_equal(np.float64(decimal_number(cells[name])), expected[name], equal_nan=True)
            for name in NUMBER_COLUMNS
            if name != "board_score"
        )
    except (OSError, AttributeError, KeyError, TypeError, ValueError, csv.Error):
        return False
    is_intact = tuple(names) == INDEX_COLUMNS and not any(None in numbers for numbers in numbers_by_row)
    return is_intact and same_numbers and all(cells[name] == expected[name] for name in TEXT_COLUMNS)


def record_score(folder: Path, name: str, score: str) -> list[str]:
    """Record a submission's leaderboard score and return the lines of `score_history`.

    Raises UserError for an unknown submission, and for a score outside 0..1.
    """
    try:
        value = float(score)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise UserError(f"--record {name} {score}: not a macro F1; give a number from 0 to 1, for example 0.7751")
    # Check the name of the submission before locking: if `folder` is mistyped, `locked` would create it.
    names = list(read_index(folder)["name"])
    if name not in names:
        raise UserError(f"--record {name}: {folder / INDEX_FILE} has no such submission{did_you_mean(name, names)}")
    with locked(folder):
        table = read_index(folder)
        table.loc[table["name"] == name, "board_score"] = value
        _write(folder, table)
    return score_history(table)


def score_history(table: pd.DataFrame) -> list[str]:
    """Return a line per leaderboard score, with its interval; then the correlation and a warning, if they apply.

    A public leaderboard uses half of the eval set, so its scores are compared with submission_half95, or with
    board_half95 in rows of older versions.
    """
    recorded = table[table.board_score.notna()]
    lines, outside = [], 0
    for row in recorded.itertuples():
        where, expected_score = "no interval (no eval set)", row.expected_macro_f1
        name, bounds = "board_half95", (row.board_half_low, row.board_half_high)
        if not np.isnan(row.expected_submission):
            expected_score = row.expected_submission
            name, bounds = "submission_half95", (row.submission_half_low, row.submission_half_high)
        if not np.isnan(bounds).any():
            inside = bounds[0] <= row.board_score <= bounds[1]
            outside += not inside
            where = f"{'inside' if inside else 'OUTSIDE'} {name} {ci_text(bounds)}"
        lines.append(f"{row.name}: expected {expected_score:.4f}, leaderboard {row.board_score:.4f}, {where}")
    # Use one kind of expected score for all rows: rows of older versions lack the one with the gain from averaging.
    has_all = recorded.expected_submission.notna().all()
    expected, scores = recorded.expected_submission if has_all else recorded.expected_macro_f1, recorded.board_score
    if len(recorded) >= MIN_SCORES_FOR_CORRELATION and expected.std() > 0 and scores.std() > 0:
        correlation = np.corrcoef(expected, scores)[0, 1]
        lines.append(f"expected and leaderboard scores: correlation {correlation:.2f} over {len(recorded)} submissions")
    if outside >= 2:
        lines.append(
            f"warning: {outside} of {len(recorded)} leaderboard scores are outside their interval, so the local score "
            "does not predict the leaderboard; check for people in two folds, different preprocessing at test time, or "
            "eval photos that differ from the training photos"
        )
    return lines


def _write(folder: Path, table: pd.DataFrame) -> None:
    write_csv(folder / INDEX_FILE, table)
