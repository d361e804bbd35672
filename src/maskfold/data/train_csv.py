"""Read train.csv: the people and their folders on disk."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from maskfold.data.cell_values import age_fault, age_of, gender_fault, gender_of
from maskfold.data.name_matching import DiskNames, near_match_warning, points_outside
from maskfold.data.raw_csv import TRAIN_COLUMNS, read_table
from maskfold.data.raw_layout import Layout

if TYPE_CHECKING:
    import pandas as pd

PEOPLE_COLUMNS = ("id", "person_id", "gender", "age")


def read_people(layout: Layout, faults: list[str], warnings: list[str]) -> tuple[pd.DataFrame, dict[str, Path | None]]:
    """Read train.csv; append messages to `faults` and `warnings`. Return (people, folders).

    people: a table with the columns id, person_id, gender, age. folders: {person_id: folder on disk, or None if it is
    missing}. Raises UserError if train.csv cannot be read as a table.

    A person_id is the path as train.csv writes it, so the same data has the same ids and the same fingerprint on every
    machine. The name on disk may differ from the path in Unicode form, case or spaces, depending on the file system.
    Spaces around a path are removed, unless another path in train.csv differs from it only in such spaces.
    """
    disk = DiskNames(layout.train_images)
    table = read_table(
        layout.train_csv, TRAIN_COLUMNS, faults=faults, names_exist=lambda table: all(map(disk.find, table.path))
    )
    num_spellings = Counter(path.strip() for path in set(table.path))
    rows, folders, near_matches = [], {}, []
    line_by_folder: dict[object, int] = {}
    for row in table.itertuples():
        where, path, folder = f"{layout.train_csv} line {row.Index}", None, None
        gender, age = gender_of(row.gender), age_of(row.age)
        if points_outside(row.path):
            faults.append(f"{where}: path {row.path!r} points outside train/images; write the name of the folder")
        else:
            folder = str(PurePosixPath(row.path if num_spellings[row.path.strip()] > 1 else row.path.strip()))
            path = disk.find(row.path)
            # Two spellings of one folder on disk are duplicates. For a missing folder, only equal paths are duplicates.
            first_line = line_by_folder.setdefault(path or folder, row.Index)
            if first_line != row.Index:
                faults.append(f"{where}: folder {folder} is already listed in line {first_line}; keep one of them")
                folder = None
            elif layout.train_images.is_dir() and (path is None or not path.is_dir()):
                faults.append(
                    f"{where}: path {folder}: the folder is missing in {layout.train_images}"
                    f"{disk.hint(row.path) or '; restore it'}"
                )
                path = None
        if gender is None:
            faults.append(f"{where}: {gender_fault(row.gender)}")
        if age is None:
            faults.append(f"{where}: {age_fault(row.age)}")
        if folder is not None:
            # Rows with an invalid gender or age are kept, so that missing photos of these people are reported too.
            rows.append((row.id.strip(), folder, gender, -1 if age is None else age))
            folders[folder] = path
            if path is not None and not disk.is_exact(folder):
                near_matches.append(f"{folder} (on disk {path.relative_to(layout.train_images)})")
    warnings += near_match_warning(near_matches, layout.name_of(layout.train_csv))
    import pandas as pd

    return pd.DataFrame(rows, columns=PEOPLE_COLUMNS), folders
