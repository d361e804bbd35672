"""Read CSV tables in the variants that programs and spreadsheets write. All columns are text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from maskfold.data.name_matching import name_key
from maskfold.data.text_encoding import not_utf8, read_text
from maskfold.errors import UserError, did_you_mean, indented_list

if TYPE_CHECKING:
    import pandas as pd

TRAIN_COLUMNS = ("id", "gender", "race", "age", "path")
EVAL_COLUMNS = ("ImageID", "ans")
# Excel writes semicolons in countries whose decimal mark is a comma, and tabs in its format `Unicode text`.
SEPARATORS = (",", ";", "\t")
# A message shows at most this number of columns of a header.
MAX_SHOWN_COLUMNS = 30


def read_table(
    path: Path,
    columns: tuple[str, ...],
    may_be_empty: bool = False,
    faults: list[str] | None = None,
    names_exist: Callable[[pd.DataFrame], bool] = lambda table: False,
    optional: tuple[str, ...] = (),
) -> pd.DataFrame:
    """Read the columns `columns` of a CSV as text. The index is the number of the line in which a row begins, from 1.

    The separator is the comma, semicolon or tab, whichever finds the largest number of `columns` in the header. Blank
    rows and all other columns are left out. Text in a column without a name is a fault, except in the first column,
    which may be an index. Cells that are missing at the end of a row are empty. Spaces around a cell are kept, because
    names may contain them.

    faults: the list to which faults of rows are appended; None to raise them as an error. names_exist: takes the table
    and returns whether every file or person that it names exists. A file that is not UTF-8 is read as CP949 only if
    names_exist returns True. optional: those of `columns` that may be missing; their cells are then empty.

    Raises UserError if the file is not a CSV with these columns, or if it has no rows and may_be_empty is False.
    """
    fix = f"give a CSV with the columns {','.join(columns)}"
    import pandas as pd

    text, not_utf8_line = read_text(path, fix)
    row_faults: list[str] = []
    line, header, records = _find_header(text, path, columns, fix)
    positions = _find_columns(header, columns, optional, f"{path} line {line}", fix)
    lines, rows = [], []
    # An unnamed first column is an index, so its cells are ignored.
    first = 0 if header[0].strip() else 1
    for line, cells in records:
        if not any(map(str.strip, cells[first:])):
            continue
        if fault := _row_fault(cells, header, first):
            row_faults.append(f"{path} line {line}: {fault}")
            continue
        lines.append(line)
        rows.append([cells[index] if index < len(cells) else "" for index in positions])
    table = pd.DataFrame(rows, pd.Index(lines, dtype=int, name="line"), columns, dtype=str)
    if not_utf8_line is not None and not (rows and names_exist(table)):
        raise not_utf8(path, not_utf8_line, fix)
    if not rows and not row_faults and not may_be_empty:
        raise UserError(f"{path}: has no rows; {fix}")
    if faults is not None:
        faults += row_faults
    else:
        raise_row_faults(path, row_faults)
    return table


def raise_row_faults(path: Path, faults: list[str]) -> None:
    """Raise one UserError that lists the faults of a table's rows, if there are any."""
    if len(faults) == 1:
        raise UserError(faults[0])
    if faults:
        raise UserError(f"{path}: {len(faults)} faults; fix the rows and run again:\n{indented_list(faults)}")


Records = Iterator[tuple[int, list[str]]]


def _find_header(text: str, path: Path, columns: tuple[str, ...], fix: str) -> tuple[int, list[str], Records]:
    """Return (line of the header, header, other records), read with the separator that finds the most of `columns`.

    The line is counted from 1.
    """
    # Some programs write a first line such as `sep=;`, which tells Excel the separator.
    start = re.match(r"\s*sep=[^\n]\n", text, re.IGNORECASE)
    first_line = text[: start.end()].count("\n") + 1 if start else 1
    text = text[start.end() :] if start else text
    if not re.search(r'[^\s,;"]', text):
        raise UserError(f"{path}: is empty; {fix}")
    keys, results, errors = set(map(name_key, columns)), [], []
    for separator in SEPARATORS:
        records = _records(text, separator, path, first_line, fix)
        try:
            line, header = next(((line, cells) for line, cells in records if any(map(str.strip, cells))), (0, []))
        except UserError as error:
            errors.append(error)
            continue
        if header:
            results.append((line, header, records))
    if not results:
        raise errors[0]
    return max(results, key=lambda result: len(keys & set(map(name_key, result[1]))))


def _find_columns(
    header: list[str], columns: tuple[str, ...], optional: tuple[str, ...], where: str, fix: str
) -> list[int]:
    """Return the position of each of `columns` in the header.

    A column with exactly this name is preferred to a near match, which differs only in Unicode form, case or spaces. A
    missing column of `optional` gets the position after the last column. Raises UserError if a column that is not
    optional is missing, or if a column occurs twice.
    """
    names, keys = [name.strip() for name in header], list(map(name_key, header))
    positions, missing, repeated = [], [], []
    for column in columns:
        wanted = name_key(column)
        candidates = [index for index, name in enumerate(names) if name == column]
        candidates = candidates or [index for index, key in enumerate(keys) if key == wanted]
        positions.append(candidates[0] if candidates else len(header))
        missing += [] if candidates or column in optional else [column]
        repeated += [column] if len(candidates) > 1 else []
    faults = [f"column {column} occurs twice; keep one of them" for column in repeated]
    if missing:
        unused = [name for name in names if name and name not in columns]
        hint = did_you_mean(missing[0], unused, 1) if len(missing) == 1 else ""
        if len(names) == 1 < len(columns) == len(missing) == names[0].count(",") + 1:
            hint = "; all columns are in one cell, so split it into columns in the spreadsheet"
        header_text = ",".join(names[:MAX_SHOWN_COLUMNS])
        if len(names) > MAX_SHOWN_COLUMNS:
            header_text += f",... ({len(names):,} columns)"
        faults.append(f"column {', '.join(missing)} is missing (the header is {header_text}){hint}; {fix}")
    if faults:
        raise UserError(f"{where}: {'; '.join(faults)}")
    return positions


def _row_fault(cells: list[str], header: list[str], first: int) -> str:
    """Return what is wrong with a row that has text in a column without a name; an empty string for other rows.

    first: position of the first cell that is checked.
    """
    for index, cell in enumerate(cells[first:], first):
        if not cell.strip() or (index < len(header) and header[index].strip()):
            continue
        fix = "put double quotes around a cell that contains the separator, or delete the extra text"
        if index >= len(header):
            return f"has {len(cells)} cells, but there are {len(header)} columns; {fix}"
        return f"cell {index + 1}, {cell.strip()!r}, is in a column without a name; name the column, or {fix}"
    return ""


def _records(text: str, separator: str, path: Path, line: int, fix: str) -> Records:
    """Yield (number of the line in which a record begins, cells) for each record. line: number of the first line.

    A cell in quotes may contain separators and line feeds; spaces may surround the quotes. Raises UserError for a quote
    that is not closed.
    """
    spaces = rf"[^\S\n{separator}]*+"
    quoted = re.compile(rf'{spaces}"([^"]*+(?:""[^"]*+)*+)"{spaces}(?=[{separator}\n]|\Z)')
    cell_end = re.compile(rf"[{separator}\n]")
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if '"' not in text[start:end]:
            cells = text[start:end].split(separator)
        else:
            cells, end = [], start - 1
            while not cells or (end < len(text) and text[end] == separator):
                begin = end + 1
                if match := quoted.match(text, begin):
                    end = match.end()
                    cells.append(match[1].replace('""', '"'))
                    continue
                match = cell_end.search(text, begin)
                end = match.start() if match else len(text)
                cell = text[begin:end]
                if cell.lstrip().startswith('"'):
                    raise UserError(
                        f"{path} line {line}: the double quote that opens cell {len(cells) + 1} is not closed before a "
                        f"separator; delete it, or write each double quote inside a cell twice; {fix}"
                    )
                cells.append(cell)
        yield line, cells
        line += text.count("\n", start, end) + 1
        start = end + 1
