"""Mutations of CSV files: cells, rows, columns, quotes, delimiters, line ends and encodings."""

import csv
import io

from byte_mutations import Draw
from hypothesis import strategies as st

ODD_CELLS = (
    "", " ", "nan", "NaN", "None", "null", "inf", "-inf", "1e999", "-1", "0", "1", "18", "1.0", "22.0", "1e3", "120", "121", "007",
    "9" * 30, "9" * 400, "0x10", "1_0", "²", "٣", "３", "①", "male", "Male", " female ", "MALE", "swap", "age", "gender",
    "incorrect_mask|normal", "../x", "/etc", ".", "..", "a/b", "a\\b", "C:\\x", "~", "*", "\0", "a\0b", "\ud800", "é", "e\u0301", "\u3000", "\ufeff",
    '"', "'", "a\nb", "a\rb", "a,b", ";", "\t", "=1+1", "true", "#x", "x" * 300, "x/" * 3000, "x" * 150_000, "con", "\u202e", "\ud83d",
)  # fmt: skip
# A longer table is cut: reading it legitimately takes longer than the limit.
MAX_CHARACTERS = 1_000_000
HEADERS = (
    "",
    "x",
    "id",
    "path",
    "age",
    "gender",
    "image_id",
    "ImageID",
    "ans",
    "fold",
    "label",
    "name",
    "Index",
    "count",
    "_1",
)


def parse(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8"))))


def _cell(draw: Draw, rows: list[list[str]]) -> tuple[list[str], int]:
    row = rows[draw(st.integers(0, len(rows) - 1))]
    if not row:
        row.append("")
    return row, draw(st.integers(0, len(row) - 1))


def _mutate_once(draw: Draw, rows: list[list[str]]) -> None:
    kinds = ("cell", "cell", "cell", "cell", "copy", "add_cell", "delete_cell", "delete_row", "double_row", "blank", "rows", "header",
             "delete_column", "double_column", "swap", "columns", "fill")  # fmt: skip
    kind = draw(st.sampled_from(kinds))
    row, column = _cell(draw, rows)
    number = rows.index(row)
    if kind == "cell":
        row[column] = draw(st.sampled_from(ODD_CELLS))
    elif kind == "copy":
        other, other_column = _cell(draw, rows)
        row[column] = other[other_column]
    elif kind == "add_cell":
        row.insert(column, draw(st.sampled_from(ODD_CELLS)))
    elif kind == "delete_cell":
        del row[column]
    elif kind == "delete_row" and len(rows) > 1:
        del rows[number]
    elif kind == "double_row":
        rows.insert(number, list(row))
    elif kind == "blank":
        rows.insert(number, draw(st.sampled_from(([], [""], [""] * len(row), [" "]))))
    elif kind == "rows":
        rows += [list(row) for _ in range(draw(st.sampled_from((10, 1000))))]
    elif kind == "header":
        header = rows[0]
        if header:
            header[min(column, len(header) - 1)] = draw(st.sampled_from((*HEADERS, *header)))
    elif kind in ("delete_column", "double_column"):
        for each in rows:
            if column < len(each):
                each[column : column + 1] = [] if kind == "delete_column" else [each[column]] * 2
    elif kind == "swap":
        other_column = draw(st.integers(0, 5))
        for each in rows:
            if max(column, other_column) < len(each):
                each[column], each[other_column] = each[other_column], each[column]
    elif kind == "columns":
        count, name = draw(st.sampled_from(((5, ""), (300, "c"), (20_000, "c"), (100_000, ""), (100_000, "c"))))
        for line, each in enumerate(rows[: draw(st.sampled_from((1, 2, len(rows))))][: 400_000 // count + 1]):
            each += [f"{name}{n}" if name and not line else name for n in range(count)]
    elif kind == "fill":
        value = draw(st.sampled_from(ODD_CELLS[:40]))
        for each in rows[1:]:
            if column < len(each):
                each[column] = value


def mutate_csv(draw: Draw, content: bytes) -> bytes:
    rows = parse(content)
    for _ in range(draw(st.sampled_from((1, 1, 2, 3)))):
        _mutate_once(draw, rows)
    usual = draw(st.integers(0, 3)) > 0
    delimiter = "," if usual else draw(st.sampled_from((",", ";", "\t", "|", ", ")))
    end = "\n" if usual else draw(st.sampled_from(("\n", "\r\n", "\r", "\n\n", "\n,,,\n")))
    quote_all = not usual and draw(st.booleans())
    lines, size = [], 0
    for row in rows:
        lines.append(delimiter.join(_quoted(cell, delimiter, quote_all) for cell in row))
        # A row that is a long cell may be there a thousand times.
        if (size := size + len(lines[-1])) > MAX_CHARACTERS:
            break
    text = end.join(lines) + draw(st.sampled_from((end, "", "\x1a", '"')))
    encodings = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp949", "latin-1", "utf-32")
    encoding = "utf-8" if usual else draw(st.sampled_from(encodings))
    return text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")


def _quoted(cell: str, delimiter: str, quote_all: bool) -> str:
    doubled = cell.replace('"', '""')
    return f'"{doubled}"' if quote_all or any(character in cell for character in (delimiter, "\n", "\r")) else cell
