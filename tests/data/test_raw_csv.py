"""One reader for all tables: what spreadsheets write gives the same cells and lines, and the rest is refused."""

import csv
import io
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskfold.data.cell_values import age_of, decimal_number, gender_of, whole_number
from maskfold.data.raw_csv import TRAIN_COLUMNS, read_table
from maskfold.errors import UserError

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0\ufeff", exclude_categories=("Cs",)), max_size=8)
NAMES = CELLS.filter(lambda cell: cell.strip())
ROWS = st.lists(st.tuples(NAMES, CELLS, CELLS, CELLS, NAMES), min_size=1, max_size=6)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
BLANK_LINES = st.lists(st.sampled_from(["", " ", "SEP", "SEP SEP\t", '""SEP']), max_size=2)


@st.composite
def files(draw):
    """(bytes of a table, its rows, the line in which each begins) in one of the forms that programs write."""
    rows, separator = draw(ROWS), draw(st.sampled_from(",;\t"))
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    # Python's own writer does not quote a line feed where lines end otherwise.
    quoting = csv.QUOTE_ALL if line_end == "\r" else draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    has_index, num_empty = draw(st.booleans()), draw(st.integers(0, 2))
    lines, text = [], draw(st.sampled_from(["", f"sep={separator}{line_end}"]))
    for number, cells in enumerate([TRAIN_COLUMNS, *rows]):
        for blank in draw(BLANK_LINES):
            blank = blank.replace("SEP", separator)
            # A tab is blank too, but it does not end a quoted cell where it is no separator.
            text += (blank if blank.strip(separator + '" ') == "" else "") + line_end
        lines.append(text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1)
        written = io.StringIO()
        index = ["" if number == 0 else str(number - 1)] if has_index else []
        csv.writer(written, delimiter=separator, lineterminator=line_end, quoting=quoting).writerow(
            [*index, *cells, *[""] * num_empty]
        )
        text += written.getvalue()
    text = text.removesuffix(line_end) if draw(st.booleans()) else text
    return text.encode(draw(st.sampled_from(ENCODINGS))), rows, lines[1:]


@given(files())
def test_all_forms_of_a_table_give_the_same_cells_and_lines(tmp_path_factory, file):
    content, rows, lines = file
    path = tmp_path_factory.getbasetemp() / "table.csv"
    path.write_bytes(content)
    table = read_table(path, TRAIN_COLUMNS)
    assert list(table.itertuples(index=False, name=None)) == rows
    assert table.index.tolist() == lines


@given(
    st.one_of(
        st.binary(max_size=200), st.text('",;\t\n\r ab=', max_size=60).map(lambda text: ("a,b\n" + text).encode())
    )
)
def test_any_bytes_give_a_table_or_one_message(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.csv"
    path.write_bytes(content)
    try:
        table = read_table(path, ("a", "b"), may_be_empty=True)
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert list(table) == ["a", "b"]


def refusal(path, content: str | bytes, columns=TRAIN_COLUMNS) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        read_table(path, columns)
    assert str(path) in str(error.value)
    return str(error.value)


HEADER = "id,gender,race,age,path\n"
REFUSED = {
    "XLSX": (b"PK\x03\x04\x14\0\x06\0xl/workbook.xml", ["XLSX"]),
    "XLS": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ["XLS"]),
    "PDF": (b"%PDF-1.4\n", ["PDF"]),
    "Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        ["is a Git LFS pointer, not the file itself; download", "`git lfs pull`, or give"],
    ),
    "HTML": ("\n<!DOCTYPE html><table>", ["HTML"]),
    "empty": ("", ["empty"]),
    "blank": (" \n,,\n\n", ["empty"]),
    "only the mark of UTF-8": (b"\xef\xbb\xbf", ["empty"]),
    "half a UTF-16 character": ("id,\ngender".encode("utf-16") + b"\0", ["line 2", "UTF-16 text"]),
    "half a UTF-16 character of another byte order": (
        b"\xfe\xff" + "id,\ngender".encode("utf-16-be") + b"\0",
        ["line 2", "UTF-16 text"],
    ),
    "half a UTF-16 character without a mark": (
        "id,\r\ngender".encode("utf-16-be") + b"\0",
        ["line 2", "UTF-16"],
    ),
    "half a UTF-32 character": ("id,\rgender".encode("utf-32") + b"\0", ["line 2", "UTF-32 text"]),
    "Latin-1 below the mark of UTF-8": (b"\xef\xbb\xbfid,\n\xf6,\n", ["line 2", "UTF-8 text"]),
    "Latin-1 that is CP949 too, below UTF-8": (
        HEADER.encode() + "1,male,A,20,Zoë\n".encode() + b"\n2,male,A,20,\xc4rzte\n",
        ["line 4", "UTF-8 text"],
    ),
    "Latin-1": (HEADER.encode() + b"1,male,A,20,p\n\n2,male,A,20,J\xf6rg \xff\n", ["line 4", "UTF-8"]),
    "CP949 without a list of names": (
        HEADER.encode() + "1,male,A,20,p\n2,male,한국,20,q\n".encode("cp949"),
        ["line 3", "UTF-8"],
    ),
    "NUL": (HEADER + "1,male,A,20,p\n\n2,male,A,20,\0\n", ["line 4", "NUL"]),
    "column missing": ("id,gender,race,path\n1,male,A,p\n", ["line 1", "column age is missing"]),
    "column misspelled": ("\nid,gender,race,agee,path\n1,male,A,20,p\n", ["line 2", "column age", "did you mean agee"]),
    "column twice": ("id,gender,race,age,path,path\n1,male,A,20,p,q\n", ["column path occurs twice"]),
    "column twice and another missing": ("id,gender,race,path,path\n1,male,A,p,q\n", ["column path", "column age"]),
    "all columns in one cell": ('"id,gender,race,age,path"\n"1,male,A,20,p"\n', ["all columns are in one cell"]),
    "a cell too many": (HEADER + '1,male,A,20,"a\nb"\n\n2,male,A,20,p,x\n', ["line 5", "6 cells"]),
    "decimal comma without quotes": (HEADER + "1,male,A,20,0,p\n", ["line 2", "6 cells"]),
    "content below no name": (
        "id,gender,race,age,path,\n1,male,A,20,p,\n2,male,A,20,q,x\n",
        ["line 3", "cell 6", "'x'"],
    ),
    "quote not closed": (
        HEADER + '1,male,A,20,p\n\n2,"male,A,20,q\n3,male,A,20,r\n',
        ["line 4", "cell 2", "not closed"],
    ),
    "text behind a quote": (HEADER + '1,male,A,20,"p"q\n', ["line 2", "cell 5"]),
    "no rows": (HEADER, ["no rows"]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_files_are_refused_with_line_and_fix(tmp_path, kind):
    content, words = REFUSED[kind]
    message = refusal(tmp_path / "t.csv", content)
    assert not [word for word in words if word not in message], message


def test_faults_of_all_rows_are_in_one_message(tmp_path):
    message = refusal(tmp_path / "t.csv", HEADER + "1,male,A,20,p,x\n2,male,A,20,q\n3,male,A,20,r,,y\n")
    assert "2 faults" in message
    assert "line 2" in message
    assert "line 4" in message


def test_columns_in_another_case_and_order_are_found(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(" PATH ,Age,note,Gender,ID,race,note\np,20,x,male,1,A,y\n")
    assert read_table(path, TRAIN_COLUMNS).to_numpy().tolist() == [["1", "male", "A", "20", "p"]]


def test_of_two_columns_the_one_with_the_exact_name_is_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("A,a,b\n1,2,3\n")
    assert read_table(path, ("a", "b")).a.tolist() == ["2"]


def test_a_cut_row_ends_in_empty_cells(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n1\n2,3\n")
    assert read_table(path, ("a", "b", "c")).to_numpy().tolist() == [["1", "", ""], ["2", "3", ""]]


def test_blanks_around_quotes_and_quotes_inside_a_cell(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b\n "x, y" , 5" \n"say ""hi""",""\n')
    assert read_table(path, ("a", "b")).to_numpy().tolist() == [["x, y", ' 5" '], ['say "hi"', ""]]


def test_cp949_is_read_only_if_the_names_exist(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("a,b\n김,1\n".encode("cp949"))
    assert read_table(path, ("a", "b"), names_exist=lambda table: table.a.tolist() == ["김"]).a[2] == "김"
    with pytest.raises(UserError, match="line 2"):
        read_table(path, ("a", "b"), names_exist=lambda table: False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_table_from_a_pipe(tmp_path):
    """`--truth <(sort answers.csv)` in a shell."""
    reading, writing = os.pipe()
    os.write(writing, b"a,b\n1,2\n")
    os.close(writing)
    assert read_table(type(tmp_path)(f"/dev/fd/{reading}"), ("a", "b")).b.tolist() == ["2"]
    os.close(reading)


@pytest.mark.parametrize(
    "header", [",".join(f"c{n}" for n in range(100_000)), "x" + "," * 100_000, ",".join(["pathh"] * 100_000)]
)
def test_a_wide_header_takes_linear_time_and_a_short_message(tmp_path, header):
    start = time.process_time()
    message = refusal(tmp_path / "t.csv", header + "\n")
    assert time.process_time() - start < 2
    assert "(100,00" in message
    assert len(message) < 1000


@pytest.mark.parametrize("line", ['"' * 200_000, '"a' * 100_000, " " * 400_000 + '"', '"",' * 100_000, "," * 400_000])
def test_reading_takes_linear_time(tmp_path, line):
    start = time.process_time()
    refusal(tmp_path / "t.csv", HEADER + line + "x\n")
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("25", 25),
        (" 25 ", 25),
        ("25.0", 25),
        ("25,00", 25),
        ("025", 25),
        ("25.5", None),
        ("-3", None),
        ("", None),
        ("２５", None),
        ("2e1", None),
    ],
)
def test_whole_numbers(cell, number):
    assert whole_number(cell) == number


@pytest.mark.parametrize(
    ("cell", "number"), [("0.75", 0.75), ("0,75", 0.75), ("7.5E-01", 0.75), ("1", 1.0), ("1.2.3", None), ("x", None)]
)
def test_decimal_numbers(cell, number):
    assert decimal_number(cell) == number


def test_genders_in_any_case_but_not_abbreviated():
    assert [gender_of(cell) for cell in ("male", " Female", "MALE ", "m", "f", "femail", "")] == [
        "male",
        "female",
        "male",
        *[None] * 4,
    ]
    assert [age_of(cell) for cell in ("20.0", "0", "121")] == [20, None, None]
