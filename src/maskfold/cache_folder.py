"""The folder for caches, which are files that a command can compute again, and the fallback to a temporary folder."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from maskfold.errors import UserError
from maskfold.fileio import CANNOT_WRITE, nearest_existing, why_not_writable

KEEP_HINT = "give --cache a folder to keep it"


class CacheFolder:
    """The folder that --cache names. If it is None, each cache is next to the files that it was computed from.

    If a cache cannot be written there, predictions are not kept, and decoded photos and features are written into a
    temporary folder, which is deleted at the end of the command. A note about each case is printed once.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self._temporary: tempfile.TemporaryDirectory | None = None
        self._noted: set[str] = set()

    def __getstate__(self) -> dict:
        # The process that unpickles this object uses the same temporary folder, but does not delete it.
        folder = self.folder if self._temporary is None else Path(self._temporary.name)
        return {"folder": folder, "_temporary": None, "_noted": set()}

    def folders(self, default: Path) -> list[Path]:
        """The folders that may contain a cache: a subfolder of --cache if it is given, then `default`.

        New files go into the first one if it can be written to.
        """
        return [default] if self.folder is None else [self.folder / default.name, default]

    def keep(self, path: Path, write: Callable[[Path], object], content: str) -> bool:
        """Call write(path) and return True. If the file cannot be written, print a note and return False.

        content: the name of the content for the note, such as "the predictions".
        """
        try:
            write(path)
            return True
        except OSError as error:
            if error.errno not in CANNOT_WRITE:
                raise
            cause = os.strerror(error.errno)
            self.note(f"{path.parent}: cannot be written ({cause}), so {content} will not be kept; {KEEP_HINT}")
            return False

    def choose_folder(self, default: Path, size: int, content: str) -> Path:
        """Return a folder with room for `size` bytes: folders(default)[0] if possible, otherwise a temporary folder.

        content: the name of the content for messages, such as "the store". Raises UserError if no temporary folder can
        be created, or if it has too little room as well.
        """
        folder = self.folders(default)[0]
        cause = why_not_writable(folder) or _too_small(folder, size)
        if cause is None:
            return folder
        if self._temporary is None:
            try:
                self._temporary = tempfile.TemporaryDirectory(prefix="maskfold-", ignore_cleanup_errors=True)
            except OSError as error:
                raise UserError(
                    f"{folder}: cannot hold {content} ({cause}), nor can a temporary folder ({error.strerror}); free "
                    "space, or give --cache a folder on another disk"
                ) from error
        temporary = Path(self._temporary.name)
        if (too_small := _too_small(temporary, size)) is not None:
            raise UserError(
                f"{folder}: cannot hold {content} ({cause}), nor can {temporary} ({too_small}); delete files to "
                "free space, or give --cache a folder on another disk"
            )
        self.note(
            f"{folder}: cannot hold {content} ({cause}), so it is kept in {temporary} until this command ends; "
            f"{KEEP_HINT}"
        )
        return temporary

    def note(self, message: str) -> None:
        """Print a note, once."""
        if message not in self._noted:
            self._noted.add(message)
            print(f"note: {message}", file=sys.stderr)


def _too_small(folder: Path, size: int) -> str | None:
    free = shutil.disk_usage(nearest_existing(folder)).free
    return None if size <= free else f"it takes {size / 2**20:,.0f} MiB, but only {free / 2**20:,.0f} MiB are free"
