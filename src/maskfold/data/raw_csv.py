"""Read and check the CSV files of the raw data. All columns are text."""

import csv
import io
import warnings
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd

from maskfold.errors import UserError

TRAIN_COLUMNS = ("id", "gender", "race", "age", "path")
EVAL_COLUMNS = ("ImageID", "ans")


def read_table(path: Path, columns: tuple[str, ...], may_be_empty: bool = False) -> pd.DataFrame:
    """Read a CSV with text columns, among them `columns`; it must have a row unless may_be_empty.

    Raises UserError that names what is wrong.
    """
    fix = f"give a CSV with the columns {','.join(columns)}"
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: not found; {fix}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; {fix}") from None
    if b"\0" in content:
        raise UserError(f"{path}: is not text; {fix}")
    try:
        text = io.StringIO(content.decode("utf-8-sig"))
        header = next(csv.reader(text, skipinitialspace=True), [])
        if twice := {name for name in header if header.count(name) > 1}:
            raise UserError(f"{path}: column {min(twice)} occurs twice; keep one of them")
        text.seek(0)
        with warnings.catch_warnings():
            # pandas only warns if every row has a cell too many.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(text, dtype=str, keep_default_na=False, index_col=False, skipinitialspace=True)
        table = table.fillna("")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; {fix}") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: is empty; {fix}") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as fault:
        reason = str(fault).rpartition("error: ")[2].strip()
        raise UserError(f"{path}: not readable as CSV ({reason}); {fix}") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise UserError(f"{path}: column {', '.join(missing)} is missing (it has {','.join(table.columns)}); {fix}")
    if table.empty and not may_be_empty:
        raise UserError(f"{path}: has no rows; {fix}")
    return table


def points_outside(name: str) -> bool:
    """Whether a name is absolute, empty or contains `..`, under the rules of POSIX or Windows."""
    windows = PureWindowsPath(name)
    return (
        not PurePosixPath(name.strip()).parts
        or PurePosixPath(name).is_absolute()
        or bool(windows.anchor)
        or ".." in windows.parts
    )
