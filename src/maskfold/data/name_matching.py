"""Match names in a table with names on disk that may differ in Unicode form, case or spaces.

macOS may store é as two characters (NFD) although people type one (NFC), some file systems ignore case, and cells of a
spreadsheet often contain extra spaces.
"""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from maskfold.errors import did_you_mean
from maskfold.places import is_found

# Zero-width characters, which copied text may contain.
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200e\u200f\u2060\ufeff"))
# After this many comparisons, a Names object makes no more `did you mean` suggestions. Otherwise thousands of unknown
# names would take minutes.
MAX_COMPARISONS = 20_000


def name_key(name: str) -> str:
    """Return a key that is equal for names that differ only in Unicode form (canonical equivalence), case or spaces."""
    decomposed = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
    return "".join(decomposed.translate(INVISIBLE).split())


class Names:
    """A list of names, in which a name is found even if its Unicode form, case or spaces differ."""

    def __init__(self, names: Iterable[str]):
        self._names = dict.fromkeys(names)
        self._by_key: dict[str, list[str]] = {}
        self._by_number: dict[str, list[str]] | None = None
        for name in self._names:
            self._by_key.setdefault(name_key(name), []).append(name)
        self._comparisons_left = MAX_COMPARISONS

    def find(self, name: str) -> str | None:
        """Return the equal name, or else the only near match, or else None.

        A near match differs only in Unicode form, case or spaces.
        """
        for written in (name, name.strip()):
            if written in self._names:
                return written
        near_matches = self._by_key.get(name_key(name), [])
        return near_matches[0] if len(near_matches) == 1 else None

    def hint(self, name: str) -> str:
        """Return the end of a message about a name that `find` does not find, such as `; did you mean ...?`.

        Returns an empty string if there is no suggestion.
        """
        return self.near_match_hint(name) or self._did_you_mean(name)

    def near_match_hint(self, name: str) -> str:
        """Return the hint for a name that has several near matches or was changed to a number by a spreadsheet.

        Returns an empty string for any other name.
        """
        near_matches = self._by_key.get(name_key(name), [])
        if len(near_matches) > 1:
            # Names that differ in Unicode form look the same on the screen, so they are printed with escapes.
            listed = " and ".join(map(repr if "".join(near_matches).isascii() else ascii, near_matches))
            return f"; {listed} differ from this name only in Unicode form, case or spaces; write one of them exactly"
        if self._by_number is None:
            self._by_number = {}
            for each in self._names:
                if number := _number(each):
                    self._by_number.setdefault(number, []).append(each)
        number = _number(name)
        if same_number := self._by_number.get(number, []) if number else []:
            return (
                f"; did you mean {', '.join(same_number[:3])}? A spreadsheet has changed the name to a number: format "
                "the column as text and write the names again"
            )
        return ""

    def _did_you_mean(self, name: str) -> str:
        if self._comparisons_left < 0 or not self._names:
            return ""
        self._comparisons_left -= len(self._names)
        return did_you_mean(name, self._names)


class DiskNames:
    """Find files and folders below a root by relative path.

    Each part of a path is matched by Names.find. The content of each folder is listed only once.
    """

    def __init__(self, root: Path):
        self.root = root
        self._names_by_folder: dict[Path, Names] = {}

    def find(self, name: str) -> Path | None:
        """Return the path below the root whose parts match those of `name` (see Names.find); None if there is none."""
        path = self.root
        for part in _parts(name):
            match = self._names_in(path).find(part)
            if match is None:
                return None
            path = path / match
        return path

    def resolve(self, name: str) -> Path:
        """Return the path of `name` as written if it exists, else the path that `find` returns.

        If `find` returns None, return the path as written. No folder is read if the path as written exists, so this
        method is fast for names without faults.
        """
        path = self.root / name
        return path if is_found(path) else self.find(name) or path

    def is_exact(self, name: str) -> bool:
        """Whether `name` is on disk exactly as written."""
        path = self.find(name)
        return path is not None and path.relative_to(self.root).parts == _parts(name)

    def hint(self, name: str) -> str:
        """Return Names.hint for the first part of `name` that is not found; an empty string if all parts are found."""
        path = self.root
        for part in _parts(name):
            match = self._names_in(path).find(part)
            if match is None:
                return self._names_in(path).hint(part)
            path = path / match
        return ""

    def _names_in(self, folder: Path) -> Names:
        if folder not in self._names_by_folder:
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
            self._names_by_folder[folder] = Names(names)
        return self._names_by_folder[folder]


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts


def _number(name: str) -> str | None:
    """Return the digits of a whole number, however a spreadsheet writes it: 000123, 123.0 and 1.23E+02 all give 123.

    Returns None for a name that is not a number.
    """
    name = name.strip()
    if re.fullmatch(r"[0-9]{1,40}(\.0+)?", name):
        return name.partition(".")[0].lstrip("0") or "0"
    if match := re.fullmatch(r"([0-9])(?:\.([0-9]{1,15}))?[eE]\+?([0-9]{1,2})", name):
        digits = match[1] + (match[2] or "")
        return (digits + "0" * (int(match[3]) + 1 - len(digits))).lstrip("0") or "0"
    return None


def near_match_warning(near_matches: list[str], table: str) -> list[str]:
    """Return [a warning] about names in a table that differ from the matched names on disk, or an empty list."""
    if not near_matches:
        return []
    return [
        f"{table}: {len(near_matches)} names were matched although they differ from those on disk in Unicode form, "
        f"case or spaces; the first is {near_matches[0]}"
    ]


def points_outside(name: str) -> bool:
    """Whether a name is absolute or empty, or contains `..`, under the rules of POSIX or Windows."""
    windows = PureWindowsPath(name)
    return (
        not PurePosixPath(name.strip()).parts
        or PurePosixPath(name).is_absolute()
        or bool(windows.anchor)
        or ".." in windows.parts
    )
