"""The folder of an export: it appears complete or not at all, and nothing but an older export is replaced."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maskfold.errors import UserError
from maskfold.fileio import check_output

MODEL_FILE, CHECK_FILE, CARD_FILE, PAGE_FILE, TIMM_FOLDER = "model.onnx", "check.json", "README.md", "app.html", "timm"
EXPORTED_FILES = {MODEL_FILE, CHECK_FILE, CARD_FILE, PAGE_FILE, TIMM_FOLDER}


def check_replaceable(folder: Path) -> None:
    """Raise UserError if `folder` is neither missing, empty nor an export, or if its parent cannot be written to."""
    check_output(folder.parent, "--out")
    if not os.path.lexists(folder):
        return
    if not folder.is_dir() or folder.is_symlink():
        raise UserError(f"--out {folder}: is not a folder; choose another --out")
    names = {path.name for path in folder.iterdir()}
    if names and ((other := sorted(names - EXPORTED_FILES)) or not {MODEL_FILE, CHECK_FILE} <= names):
        example = f" (it has {other[0]})" if other else ""
        raise UserError(f"--out {folder}: holds something other than an export{example}; choose another --out")


@contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder`, and rename it to `folder` after the block.

    After an error, the new folder is deleted, and so are parents that were made for it. An older export at `folder` is
    deleted only after the new one is complete.
    """
    folder = folder.absolute()
    building, old = (folder.with_name(f".{os.getpid()}.{kind}.{folder.name}") for kind in ("new", "old"))
    missing_parents = [parent for parent in folder.parents if not parent.exists()]
    try:
        building.mkdir(parents=True)
        yield building
        check_replaceable(folder)
        if folder.exists():
            folder.replace(old)
        building.replace(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
        for parent in missing_parents:
            # This fails if the export is there, because only an empty folder can be deleted in this way.
            with suppress(OSError):
                parent.rmdir()
