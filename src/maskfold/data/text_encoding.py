"""Decode text files: UTF-8, UTF-16 and UTF-32 as spreadsheets write them, and the Korean CP949."""

import codecs
from pathlib import Path

from maskfold.errors import UserError

MAX_BYTES = 2**28
BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    # Listed before UTF-16 LE, because the first half of this mark is the mark of UTF-16 LE.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# First bytes of files in other formats that users may give instead of a table.
OTHER_FORMATS = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook (XLSX)",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (XLS)",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "a gzip archive",
    b"\xff\xd8\xff": "a JPEG",
    b"\x89PNG": "a PNG",
    b"SQLite format": "an SQLite database",
    b"PAR1": "a Parquet file",
    b"{\\rtf": "an RTF document",
    b"bplist": "an Apple property list",
}
LFS_POINTER = b"version https://git-lfs"


def read_text(path: Path, fix: str) -> tuple[str, int | None]:
    """Read a text file. Return (text, not_utf8_line). Line ends become line feeds.

    A file that is not UTF-8, UTF-16 or UTF-32 is read as CP949; not_utf8_line is then the number of the first line that
    is not UTF-8, otherwise None. Nearly every file in a single-byte encoding is also valid CP949, so the caller has to
    check text that was read as CP949. Raises UserError, whose message ends with `fix`, if the file is missing or is
    not a text file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: not found; {fix}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; {fix}") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: is larger than {MAX_BYTES // 2**20} MiB, so it is not this table; {fix}")
    _check_other_formats(path, content, fix)
    encoding = _encoding_of(content)
    if encoding == "utf-8" and b"\0" in content:
        raise _nul_error(path, content.partition(b"\0")[0].decode(errors="replace"), fix)
    not_utf8_line = None
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        # `error.start` counts from the beginning of `error.object`, which may lack the byte order mark of `content`.
        line = _last_line(error.object[: error.start].decode(encoding, errors="replace"))
        if encoding != "utf-8":
            name = encoding.removesuffix("-sig").upper()
            raise UserError(f"{path} line {line}: is not valid {name} text ({error.reason}); {fix}") from None
        try:
            text, not_utf8_line = content.decode("cp949"), line
        except UnicodeDecodeError:
            raise not_utf8(path, line, fix) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise _nul_error(path, text.partition("\0")[0], fix)
    return text, not_utf8_line


def _nul_error(path: Path, text_before: str, fix: str) -> UserError:
    return UserError(f"{path} line {_last_line(text_before)}: is not text, because it has a NUL byte; {fix}")


def not_utf8(path: Path, line: int, fix: str) -> UserError:
    """Return the error for text in an unknown encoding. line: the line of the first invalid byte."""
    return UserError(f"{path} line {line}: is not UTF-8 text; save it as `CSV UTF-8` in the spreadsheet, or {fix}")


def _last_line(text: str) -> int:
    return text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1


def _encoding_of(content: bytes) -> str:
    """Return the encoding of the byte order mark; without one, UTF-16 if the first characters show it, else UTF-8."""
    for mark, encoding in BOMS.items():
        if content.startswith(mark):
            return encoding
    # A table begins with a column name in Latin letters. In UTF-16, each of these letters has one NUL byte.
    first, second = content[0:4:2], content[1:4:2]
    if second == b"\0\0" and b"\0" not in first:
        return "utf-16-le"
    return "utf-16-be" if first == b"\0\0" and b"\0" not in second else "utf-8"


def _check_other_formats(path: Path, content: bytes, fix: str) -> None:
    """Raise UserError with the name of the format for one of OTHER_FORMATS, a Git LFS pointer, HTML or XML."""
    for start, name in OTHER_FORMATS.items():
        if content.startswith(start):
            raise UserError(f"{path}: is {name}, not text; {fix}")
    if content.startswith(LFS_POINTER):
        raise UserError(
            f"{path}: is a Git LFS pointer, not the file itself; download the file with `git lfs pull`, or {fix}"
        )
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise UserError(f"{path}: is an HTML or XML page, not a table; {fix}")
