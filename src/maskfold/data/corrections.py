"""Label corrections from a CSV. They are applied in memory, so the raw folder does not change; idempotent."""

import re
from pathlib import Path

import pandas as pd

from maskfold.data.raw_csv import read_table
from maskfold.errors import UserError, indented_list
from maskfold.labels import GENDERS, POSSIBLE_AGES

CORRECTION_COLUMNS = ("person_id", "field", "value", "reason")
SWAPS = ("incorrect_mask|normal", "normal|incorrect_mask")


def apply_corrections(people: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, set[str], dict]:
    """Apply the corrections of the CSV at `path`.

    A row's person_id is the folder, or the id in train.csv if only one person has it. Returns the corrected people, the
    folders whose incorrect_mask and normal photos are exchanged, and a report: the file, the changes, the number of
    rows that changed nothing, and the person_ids that are not in the data. Raises UserError that lists all faults.
    """
    faults: list[str] = []
    changes: dict[tuple[str, str], tuple[str, int]] = {}
    absent = []
    for line, row in enumerate(read_table(path, CORRECTION_COLUMNS, may_be_empty=True).itertuples(), 2):
        where = f"{path} line {line}"
        fault = _value_fault(row.field, row.value)
        folders = _folders_of(row.person_id.strip(), people)
        if fault:
            faults.append(f"{where}: {fault}")
        elif len(folders) > 1:
            faults.append(
                f"{where}: id {row.person_id} is shared by {' and '.join(folders)}; write the name of the folder"
            )
        elif not folders:
            absent.append(row.person_id)
        else:
            value = SWAPS[0] if row.field == "swap" else row.value.strip()
            first_value, first_line = changes.setdefault((folders[0], row.field), (value, line))
            if first_value != value:
                faults.append(
                    f"{where}: {row.field} of {folders[0]} is {first_value} in line {first_line}; keep one of them"
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
        new, old = (int(value) if field == "age" else value), people.loc[folder, field]
        if new != old:
            people.loc[folder, field] = new
            changed.append(f"{folder}: {field} {old} -> {new}")
    report = {
        "file": str(path),
        "changed": changed,
        "already_so": len(changes) - len(changed),
        "not_in_data": sorted(set(absent)),
    }
    return people.reset_index()[["id", "person_id", "gender", "age"]], swapped, report


def _value_fault(field: str, value: str) -> str:
    if field == "gender":
        return "" if value.strip() in GENDERS else f"gender {value!r} is not valid; use {' or '.join(GENDERS)}"
    if field == "age":
        possible = re.fullmatch(r"[0-9]{1,3}", value.strip()) and int(value) in POSSIBLE_AGES
        ages = f"{POSSIBLE_AGES.start} to {POSSIBLE_AGES[-1]}"
        return "" if possible else f"age {value!r} is not valid; use an integer from {ages}"
    if field == "swap":
        return "" if value.replace(" ", "") in SWAPS else f"swap {value!r} is not valid; use {SWAPS[0]}"
    return f"field {field!r} is not valid; use gender, age or swap"


def _folders_of(person: str, people: pd.DataFrame) -> list[str]:
    if (people.person_id == person).any():
        return [person]
    return people.person_id[people.id == person].tolist()
