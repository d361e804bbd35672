"""submissions/index.csv: every submission with what was expected of it, and what the board said of it."""

from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.errors import UserError, did_you_mean, first_line
from maskfold.fileio import locked, write_atomic

FILE = "index.csv"
TEXT = ("name", "created", "members", "tta", "csv_sha256")
NUMBERS = (
    "expected_macro_f1",
    "ci_low",
    "ci_high",
    "board_low",
    "board_high",
    "board_half_low",
    "board_half_high",
    "board_score",
)
COLUMNS = (*TEXT[:4], *NUMBERS, TEXT[4])
# Below, a correlation says nothing.
LEAST_FOR_CORRELATION = 3


def read_index(folder: Path) -> pd.DataFrame:
    """The index of a folder, empty where there is none yet. Raises UserError where it can't be read as one."""
    path = folder / FILE
    if not path.exists():
        return pd.DataFrame({name: pd.Series(dtype=str if name in TEXT else float) for name in COLUMNS})
    mend = "mend it, or move it away: a new one is begun"
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str) | dict.fromkeys(NUMBERS, float))
    except (OSError, ValueError) as fault:
        raise UserError(f"{path}: not readable ({first_line(fault)}); {mend}") from fault
    if missing := [name for name in COLUMNS if name not in table]:
        raise UserError(f"{path}: column {missing[0]} is missing; {mend}")
    return table


def add_to_index(folder: Path, manifest: dict) -> None:
    """Add a submission; of the same name before, only the same file keeps its board score."""
    expected = manifest["expected"]
    row = {"name": manifest["name"], "created": manifest["created"], "csv_sha256": manifest["csv_sha256"]}
    row |= {"members": " ".join(member["run"] for member in manifest["members"]), "tta": " ".join(manifest["tta"])}
    row["expected_macro_f1"] = expected["macro_f1"]
    bounds = {"ci": "macro_f1_ci95", "board": "board95", "board_half": "board_half95"}
    for name, key in bounds.items():
        row[f"{name}_low"], row[f"{name}_high"] = expected[key] or (np.nan, np.nan)
    with locked(folder):
        table = read_index(folder)
        before = table[table["name"] == row["name"]]
        same = before[before.csv_sha256 == row["csv_sha256"]]
        row["board_score"] = same.board_score.iloc[0] if len(same) else np.nan
        rows = [*table.drop(before.index).to_dict("records"), row]
        _write(folder, pd.DataFrame(rows, columns=COLUMNS))


def record(folder: Path, name: str, score: str) -> list[str]:
    """Put the board's score on record; returns what the scores so far say. Raises UserError for a name or score that
    can't be."""
    try:
        value = float(score)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise UserError(f"--record {name} {score}: the board's macro F1 is a number from 0 to 1, like 0.7751")
    with locked(folder):
        table = read_index(folder)
        if name not in set(table["name"]):
            raise UserError(
                f"--record {name}: {folder / FILE} has no such submission{did_you_mean(name, table['name'])}"
            )
        table.loc[table["name"] == name, "board_score"] = value
        _write(folder, table)
    return history(table)


def history(table: pd.DataFrame) -> list[str]:
    """Lines on every submission with a board score: inside its interval or not, and how the local score foretells it.

    A public board shows half of the eval side: board_half95 is what its score is held against.
    """
    known = table[table.board_score.notna()]
    lines, outside = [], 0
    for row in known.itertuples():
        where = "no interval (no eval side)"
        if not np.isnan(row.board_half_low):
            inside = row.board_half_low <= row.board_score <= row.board_half_high
            outside += not inside
            where = f"{'inside' if inside else 'OUTSIDE'} [{row.board_half_low:.4f}, {row.board_half_high:.4f}]"
        lines.append(f"{row.name}: expected {row.expected_macro_f1:.4f}, board {row.board_score:.4f}, {where}")
    if len(known) >= LEAST_FOR_CORRELATION and known.expected_macro_f1.std() > 0 and known.board_score.std() > 0:
        together = np.corrcoef(known.expected_macro_f1, known.board_score)[0, 1]
        lines.append(f"local and board score correlate by {together:.2f} over {len(known)} submissions")
    if outside >= 2:
        lines.append(
            f"warning: the board fell outside its interval {outside} times in {len(known)}: the local score does not "
            "foretell it; look for people in two folds, another preprocessing, or another kind of eval people"
        )
    return lines


def _write(folder: Path, table: pd.DataFrame) -> None:
    write_atomic(folder / FILE, lambda beside: table.to_csv(beside, index=False))
