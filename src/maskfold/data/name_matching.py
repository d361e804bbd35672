"""Match names in a table with names on disk that may differ in Unicode form, case or blanks.

macOS writes é as two characters (NFD) where people type one (NFC), some disks ignore case, and spreadsheets leave
blanks.
"""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from maskfold.errors import did_you_mean
from maskfold.places import is_found

# Characters without width, which copied text may contain.
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200e\u200f\u2060\ufeff"))
# Comparisons for `did you mean` per list of names: they take seconds where each of 10,000 names is unknown.
MAX_COMPARISONS = 20_000


def name_key(name: str) -> str:
    """A name without what near matches ignore: Unicode form (canonical equivalence), case and blanks."""
    decomposed = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
    return "".join(decomposed.translate(INVISIBLE).split())


class Names:
    """Names among which others are found."""

    def __init__(self, names: Iterable[str]):
        self._names = dict.fromkeys(names)
        self._by_key: dict[str, list[str]] = {}
        self._by_number: dict[str, list[str]] | None = None
        for name in self._names:
            self._by_key.setdefault(name_key(name), []).append(name)
        self._comparisons_left = MAX_COMPARISONS

    def find(self, name: str) -> str | None:
        """The same name, or the only one that differs only in Unicode form, case or blanks; None if there is none."""
        for same in (name, name.strip()):
            if same in self._names:
                return same
        near = self._by_key.get(name_key(name), [])
        return near[0] if len(near) == 1 else None

    def hint(self, name: str) -> str:
        """What to add to a message about a name that `find` did not find: `; did you mean ...?`, or an empty string."""
        return self.certain_hint(name) or self._resembling(name)

    def certain_hint(self, name: str) -> str:
        """The hint for a name that has several near matches, or that a spreadsheet changed to a number."""
        near = self._by_key.get(name_key(name), [])
        if len(near) > 1:
            # Names that differ in Unicode form look the same on the screen.
            listed = " and ".join(map(repr if "".join(near).isascii() else ascii, near))
            return f"; {listed} differ from it only in Unicode form, case or blanks, so write one of them exactly"
        if self._by_number is None:
            self._by_number = {}
            for each in self._names:
                if number := _number(each):
                    self._by_number.setdefault(number, []).append(each)
        number = _number(name)
        if same := self._by_number.get(number, []) if number else []:
            return (
                f"; did you mean {', '.join(same[:3])}? A spreadsheet changes names to numbers: format the column as "
                "text and write the names again"
            )
        return ""

    def _resembling(self, name: str) -> str:
        if self._comparisons_left < 0 or not self._names:
            return ""
        self._comparisons_left -= len(self._names)
        return did_you_mean(name, self._names)


class DiskNames:
    """Files and folders below a folder, found by their relative paths. Each folder is listed once."""

    def __init__(self, root: Path):
        self.root = root
        self._names_in: dict[Path, Names] = {}

    def find(self, name: str) -> Path | None:
        """The path below the root whose parts match those of `name` (see Names.find); None if there is none."""
        path = self.root
        for part in _parts(name):
            match = self._names(path).find(part)
            if match is None:
                return None
            path = path / match
        return path

    def resolve(self, name: str) -> Path:
        """The path of `name` as written if it exists, which lists no folder; else what `find` finds, or as written."""
        path = self.root / name
        return path if is_found(path) else self.find(name) or path

    def is_exact(self, name: str) -> bool:
        """Whether `name` is on disk exactly as written."""
        path = self.find(name)
        return path is not None and path.relative_to(self.root).parts == _parts(name)

    def hint(self, name: str) -> str:
        """See Names.hint; for the first part of `name` that is not found."""
        path = self.root
        for part in _parts(name):
            match = self._names(path).find(part)
            if match is None:
                return self._names(path).hint(part)
            path = path / match
        return ""

    def _names(self, folder: Path) -> Names:
        if folder not in self._names_in:
            self._names_in[folder] = Names(path.name for path in folder.iterdir()) if folder.is_dir() else Names(())
        return self._names_in[folder]


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts


def _number(name: str) -> str | None:
    """The digits of a whole number as a spreadsheet writes it: 000123, 123.0 and 1.23E+02 are all 123; else None."""
    name = name.strip()
    if re.fullmatch(r"[0-9]{1,40}(\.0+)?", name):
        return name.partition(".")[0].lstrip("0") or "0"
    if match := re.fullmatch(r"([0-9])(?:\.([0-9]{1,15}))?[eE]\+?([0-9]{1,2})", name):
        digits = match[1] + (match[2] or "")
        return (digits + "0" * (int(match[3]) + 1 - len(digits))).lstrip("0") or "0"
    return None


def near_match_warning(near: list[str], table: str) -> list[str]:
    """A warning that lists how many names of a table were matched although they differ; empty if none was."""
    if not near:
        return []
    return [
        f"{table}: {len(near)} names differ from those on disk in Unicode form, case or blanks and are matched, first "
        f"{near[0]}"
    ]


def points_outside(name: str) -> bool:
    """Whether a name is absolute, empty or contains `..`, under the rules of POSIX or Windows."""
    windows = PureWindowsPath(name)
    return (
        not PurePosixPath(name.strip()).parts
        or PurePosixPath(name).is_absolute()
        or bool(windows.anchor)
        or ".." in windows.parts
    )
