"""CSV files as their owners write them, read as text and checked before anything is believed."""

import csv
import io
import warnings
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd

from maskfold.errors import UserError

TRAIN_COLUMNS = ("id", "gender", "race", "age", "path")
EVAL_COLUMNS = ("ImageID", "ans")


def read_table(path: Path, columns: tuple[str, ...], may_be_empty: bool = False) -> pd.DataFrame:
    """A CSV as text, with at least these columns and, unless it may be empty, one row.

    Raises UserError that names what is wrong.
    """
    wanted = f"a CSV with the columns {','.join(columns)} is expected"
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: not found; {wanted}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; {wanted}") from None
    if b"\0" in content:
        raise UserError(f"{path}: is not text; {wanted}")
    try:
        text = io.StringIO(content.decode("utf-8-sig"))
        header = next(csv.reader(text, skipinitialspace=True), [])
        if twice := {name for name in header if header.count(name) > 1}:
            raise UserError(f"{path}: column {min(twice)} is there twice; keep one of them")
        text.seek(0)
        with warnings.catch_warnings():
            # A cell too many in every row is but a warning to pandas.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(text, dtype=str, keep_default_na=False, index_col=False, skipinitialspace=True)
        table = table.fillna("")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; {wanted}") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: is empty; {wanted}") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as fault:
        reason = str(fault).rpartition("error: ")[2].strip()
        raise UserError(f"{path}: not readable as CSV ({reason}); {wanted}") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise UserError(f"{path}: column {', '.join(missing)} is missing; {wanted}, it has {','.join(table.columns)}")
    if table.empty and not may_be_empty:
        raise UserError(f"{path}: has no rows; {wanted}")
    return table


def points_outside(name: str) -> bool:
    """Whether a name from a table is absolute or points out of the folder it is looked up in, on any system."""
    windows = PureWindowsPath(name)
    return (
        not PurePosixPath(name.strip()).parts
        or PurePosixPath(name).is_absolute()
        or bool(windows.anchor)
        or ".." in windows.parts
    )
