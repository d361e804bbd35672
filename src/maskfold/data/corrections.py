"""Apply label corrections from a CSV. This changes the labels in memory, not the raw data folder, and is idempotent."""

from pathlib import Path

import pandas as pd

from maskfold.data.cell_values import age_fault, age_of, gender_fault, gender_of
from maskfold.data.images_table import Prepared
from maskfold.data.name_matching import Names
from maskfold.data.raw_csv import read_table
from maskfold.errors import UserError, indented_list
from maskfold.fileio import sha256

CORRECTION_COLUMNS = ("person_id", "field", "value", "reason")
SWAPS = ("incorrect_mask|normal", "normal|incorrect_mask")


def apply_corrections(people: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, set[str], dict]:
    """Apply the corrections of the CSV at `path`.

    people: Catalog.people. A person_id in the CSV is the name of the person's folder, or the id in train.csv if only
    one person has that id. Returns (corrected people, swapped, report). swapped: the person_ids of the people whose
    incorrect_mask and normal photos are exchanged. report: the file, the changes, the number of corrections that change
    nothing, and the person_ids that are not in the data. Raises UserError with a list of all faults.
    """
    faults: list[str] = []
    changes: dict[tuple[str, str], tuple[str | int | None, int]] = {}
    absent = []
    ids = PersonIds(people)
    table = read_table(path, CORRECTION_COLUMNS, may_be_empty=True, faults=faults, names_exist=ids.has_all)
    for row in table.itertuples():
        line, field = row.Index, row.field.strip().lower()
        where = f"{path} line {line}"
        value, fault = _read_value(field, row.value)
        person, folders = row.person_id.strip(), ids.folders(row.person_id)
        if fault:
            faults.append(f"{where}: {fault}")
        elif len(folders) > 1:
            faults.append(f"{where}: id {person} is shared by {' and '.join(folders)}; write the name of the folder")
        elif not folders and (hint := ids.hint(person)):
            faults.append(f"{where}: person_id {person} is not in the data{hint}")
        elif not folders:
            absent.append(person)
        else:
            first_value, first_line = changes.setdefault((folders[0], field), (value, line))
            if first_value != value:
                faults.append(
                    f"{where}: {field} of {folders[0]} is {first_value} in line {first_line}; keep one of them"
                )
    if faults:
        raise UserError(f"{len(faults)} faults in the corrections:\n{indented_list(faults)}")
    people = people.set_index("person_id")
    swapped, changed = set(), []
    for (folder, field), (value, _) in changes.items():
        if field == "swap":
            swapped.add(folder)
            changed.append(f"{folder}: incorrect_mask and normal exchanged")
            continue
        old = people.loc[folder, field]
        if value != old:
            people.loc[folder, field] = value
            changed.append(f"{folder}: {field} {old} -> {value}")
    report = {
        "file": str(path),
        "changed": changed,
        "already_so": len(changes) - len(changed),
        "not_in_data": sorted(set(absent)),
    }
    return people.reset_index()[["id", "person_id", "gender", "age"]], swapped, report


def _read_value(field: str, cell: str) -> tuple[str | int | None, str]:
    """Return (value, fault). fault: what is wrong with the field name or the cell, else an empty string."""
    if field == "gender":
        return gender_of(cell), "" if gender_of(cell) else gender_fault(cell)
    if field == "age":
        return age_of(cell), "" if age_of(cell) else age_fault(cell)
    if field == "swap":
        is_swap = "".join(cell.split()).lower() in SWAPS
        return SWAPS[0], "" if is_swap else f"swap {cell!r} is not valid; use {SWAPS[0]}"
    return None, f"field {field!r} is not valid; use gender, age or swap"


class PersonIds:
    """Find people by the person_id in a corrections file: the name of a folder, or an id in train.csv."""

    def __init__(self, people: pd.DataFrame):
        self._by_folder, self._by_id = Names(people.person_id), Names(people.id)
        self._folders_by_id = people.groupby("id").person_id.apply(list).to_dict()

    def folders(self, name: str) -> list[str]:
        """Return the folder with this name, or else the folders of all people with this id, as a list; it may be empty.

        Names are matched by Names.find, so they may differ in Unicode form, case or spaces.
        """
        folder, person_id = self._by_folder.find(name), self._by_id.find(name)
        if folder is not None and (folder == name.strip() or person_id != name.strip()):
            return [folder]
        return self._folders_by_id.get(person_id, [])

    def has_all(self, table: pd.DataFrame) -> bool:
        """Whether all person_ids of a corrections table are in the data."""
        return all(map(self.folders, table.person_id))

    def hint(self, name: str) -> str:
        """Return Names.near_match_hint for a name that `folders` does not find."""
        return self._by_folder.near_match_hint(name) or self._by_id.near_match_hint(name)


def check_corrections(prepared: Prepared, corrections: Path) -> None:
    """Raise UserError if the data was not prepared with the current content of a corrections file."""
    if not corrections.is_file():
        raise UserError(f"data.corrections: {corrections}: no such file; give the path of a corrections CSV")
    applied = prepared.meta["corrections"]
    if applied is None or applied["sha256"] != sha256(corrections):
        prepared_with = "no corrections" if applied is None else f"the corrections of {applied['file']}"
        raise UserError(
            f"data.corrections: {prepared.folder} was prepared with {prepared_with}, not with the current content of "
            f"{corrections}; prepare the data again (scripts/prepare.py --corrections {corrections}), or use another "
            "data.prepared"
        )
