"""Label corrections from a CSV: applied in memory, so the raw folder stays as it is and twice is as once."""

import re
from pathlib import Path

import pandas as pd

from maskfold.data.raw_csv import read_table
from maskfold.errors import UserError, indented_list
from maskfold.labels import GENDERS, POSSIBLE_AGES

COLUMNS = ("person_id", "field", "value", "reason")
SWAPS = ("incorrect_mask|normal", "normal|incorrect_mask")


def apply_corrections(people: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, set[str], dict]:
    """Corrected people, the folders whose two odd photos are exchanged, and a report of what was done.

    `person_id` is the folder, or train.csv's id where one person alone has it. People who are not there are counted.
    Raises UserError that lists every faulty row.
    """
    faults: list[str] = []
    wanted: dict[tuple[str, str], tuple[str, int]] = {}
    absent = []
    for line, row in enumerate(read_table(path, COLUMNS, may_be_empty=True).itertuples(), 2):
        where = f"{path} line {line}"
        fault = _faulty(row.field, row.value)
        folders = _folders_of(row.person_id.strip(), people)
        if fault:
            faults.append(f"{where}: {fault}")
        elif len(folders) > 1:
            faults.append(f"{where}: id {row.person_id} is shared by {' and '.join(folders)}; name the folder")
        elif not folders:
            absent.append(row.person_id)
        else:
            value = SWAPS[0] if row.field == "swap" else row.value.strip()
            known, before = wanted.setdefault((folders[0], row.field), (value, line))
            if known != value:
                faults.append(f"{where}: {row.field} of {folders[0]} is {known} in line {before}; keep one of them")
    if faults:
        raise UserError(f"{len(faults)} faults in the corrections:\n{indented_list(faults)}")
    people = people.set_index("person_id")
    swapped, changed = set(), []
    for (folder, field), (value, _) in wanted.items():
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
        "already_so": len(wanted) - len(changed),
        "not_in_data": sorted(set(absent)),
    }
    return people.reset_index()[["id", "person_id", "gender", "age"]], swapped, report


def _faulty(field: str, value: str) -> str:
    if field == "gender":
        return "" if value.strip() in GENDERS else f"gender {value!r}; {' or '.join(GENDERS)} is expected"
    if field == "age":
        possible = re.fullmatch(r"[0-9]{1,3}", value.strip()) and int(value) in POSSIBLE_AGES
        return "" if possible else f"age {value!r}; a whole number is expected"
    if field == "swap":
        return "" if value.replace(" ", "") in SWAPS else f"swap {value!r}; {SWAPS[0]} is expected"
    return f"field {field!r}; gender, age or swap is expected"


def _folders_of(person: str, people: pd.DataFrame) -> list[str]:
    if (people.person_id == person).any():
        return [person]
    return people.person_id[people.id == person].tolist()
