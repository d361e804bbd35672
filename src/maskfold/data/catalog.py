"""Raw folder -> tables of people and photos. All faults are collected, so that one error reports them all."""

import os
import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from maskfold.data.raw_csv import EVAL_COLUMNS, TRAIN_COLUMNS, points_outside, read_table
from maskfold.data.raw_layout import Layout
from maskfold.errors import UserError, indented_list
from maskfold.labels import GENDERS, KIND_MASK, POSSIBLE_AGES, age_group, encode_label

PEOPLE_COLUMNS, IMAGE_COLUMNS = ("id", "person_id", "gender", "age"), ("image_id", "path", "person_id", "kind")
PHOTO_ENDINGS = {".jpg", ".jpeg", ".png"}


@dataclass
class Catalog:
    """The content of a raw folder, with its faults in train/ and eval/ (errors) and its warnings.

    people: id, person_id (the folder), gender, age in years. images: image_id, path, person_id, kind.
    evaluation: image_id, path, in the order of info.csv; None without an eval set. Paths inside the root are relative
    to it.
    """

    people: pd.DataFrame
    images: pd.DataFrame
    evaluation: pd.DataFrame | None
    train_faults: list[str] = field(default_factory=list)
    eval_faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_catalog(layout: Layout) -> Catalog:
    """List people and photos, and all faults that show without opening a photo."""
    train_faults: list[str] = []
    eval_faults: list[str] = []
    warnings: list[str] = []
    people, images, evaluation = pd.DataFrame(columns=PEOPLE_COLUMNS), pd.DataFrame(columns=IMAGE_COLUMNS), None
    # Each table is read on its own, so that an unreadable one does not hide the faults of the other.
    try:
        people = _read_people(read_table(layout.train_csv, TRAIN_COLUMNS), layout.train_csv, train_faults)
        images = _find_photos(people, layout, train_faults, warnings)
    except UserError as fault:
        train_faults.append(str(fault))
    try:
        evaluation = _read_eval(layout, eval_faults, warnings)
    except UserError as fault:
        eval_faults.append(str(fault))
    return Catalog(people, images, evaluation, train_faults, eval_faults, warnings)


def with_labels(images: pd.DataFrame, people: pd.DataFrame, swapped: Collection[str] = frozenset()) -> pd.DataFrame:
    """Add gender, age, mask 0..2 and label 0..17 to the photos.

    swapped: people whose incorrect_mask and normal photos exchange their mask classes.
    """
    table = images.merge(people[["person_id", "gender", "age"]], on="person_id", how="left", validate="many_to_one")
    mask = table.kind.map(KIND_MASK)
    is_swapped = table.person_id.isin(swapped) & (mask > 0)
    table["mask"] = mask.where(~is_swapped, 3 - mask)
    table["label"] = encode_label(table["mask"], table.gender.map(GENDERS.index), age_group(table.age))
    return table


def _read_people(table: pd.DataFrame, path: Path, faults: list[str]) -> pd.DataFrame:
    rows = []
    seen: dict[str, int] = {}
    for line, row in enumerate(table.itertuples(), 2):
        where = f"{path} line {line}"
        folder = row.path
        if points_outside(folder):
            faults.append(f"{where}: path {folder!r} points outside train/images; write the name of the folder")
            folder = None
        else:
            folder = str(PurePosixPath(folder))
            if folder in seen:
                faults.append(f"{where}: folder {folder} is already listed in line {seen[folder]}; keep one of them")
                folder = None
            seen.setdefault(folder, line)
        if row.gender not in GENDERS:
            faults.append(f"{where}: gender {row.gender!r} is not valid; use {' or '.join(GENDERS)}")
        # isdigit and \d would accept the digits of other scripts too.
        age = int(row.age) if re.fullmatch(r"[0-9]{1,3}", row.age.strip()) else -1
        if age not in POSSIBLE_AGES:
            faults.append(
                f"{where}: age {row.age!r} is not valid; use an integer from {POSSIBLE_AGES.start} to "
                f"{POSSIBLE_AGES[-1]}"
            )
        if folder is not None:
            # Rows with faults are kept, so that missing photos of these people are reported too.
            rows.append((row.id, folder, row.gender, age))
    return pd.DataFrame(rows, columns=PEOPLE_COLUMNS)


def photos_by_stem(folder: Path) -> dict[str, list[Path]]:
    """{stem: photos with that stem} of a folder; names that start with a dot are ignored."""
    by_stem = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and path.suffix.lower() in PHOTO_ENDINGS and path.is_file():
            by_stem[path.stem].append(path)
    return by_stem


def _relative(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path.absolute()).as_posix()


def _find_photos(people: pd.DataFrame, layout: Layout, faults: list[str], warnings: list[str]) -> pd.DataFrame:
    if not layout.train_images.is_dir():
        raise UserError(f"{layout.train_images}: no such folder; it must contain one folder per person")
    rows = []
    for person in people.person_id:
        folder = layout.train_images / person
        if not folder.is_dir():
            faults.append(f"{folder}: the folder is missing, but {layout.train_csv} lists it; restore it")
            continue
        remaining = photos_by_stem(folder)
        for kind in KIND_MASK:
            paths = remaining.pop(kind, [])
            if not paths:
                faults.append(f"{folder / kind}: the photo is missing; restore it (jpg, jpeg or png)")
            elif len(paths) > 1:
                names = " and ".join(path.name for path in paths)
                faults.append(f"{folder}: {names} are one photo twice; keep one of them")
            else:
                rows.append((f"{person}/{kind}", _relative(paths[0], layout.root), person, kind))
        if remaining:
            unused = ", ".join(printable(path.name) for paths in remaining.values() for path in paths)
            warnings.append(f"{folder}: not used: {unused}")
    listed_folders = {Path(person).parts[0] for person in people.person_id}
    folders = {p.name for p in layout.train_images.iterdir() if p.is_dir() and not p.name.startswith(".")}
    unlisted = sorted(folders - listed_folders)
    # With faults, a folder may be unlisted only because its row is faulty.
    if unlisted and not faults:
        warnings.append(
            f"{layout.train_images}: {len(unlisted)} folders are not in train.csv, first {printable(unlisted[0])}"
        )
    return pd.DataFrame(rows, columns=IMAGE_COLUMNS)


def _read_eval(layout: Layout, faults: list[str], warnings: list[str]) -> pd.DataFrame | None:
    if layout.eval_dir.exists() and not layout.eval_dir.is_dir():
        raise UserError(f"{layout.eval_dir}: is a file; it must be the folder that contains info.csv and images/")
    has_photos = layout.eval_images.is_dir() and any(photos_by_stem(layout.eval_images))
    if not layout.info_csv.exists():
        if has_photos:
            raise UserError(f"{layout.info_csv}: not found, but {layout.eval_images} contains photos; restore it")
        warnings.append(f"{layout.eval_dir}: no eval set; no submission can be made")
        return None
    table = read_table(layout.info_csv, EVAL_COLUMNS)
    rows = []
    seen: dict[str, int] = {}
    for line, name in enumerate(table.ImageID, 2):
        where = f"{layout.info_csv} line {line}"
        if points_outside(name):
            faults.append(f"{where}: ImageID {name!r} points outside eval/images; write the name of the file")
        elif name in seen:
            faults.append(f"{where}: ImageID {name} is already listed in line {seen[name]}; keep one of them")
        elif not (layout.eval_images / name).is_file():
            faults.append(f"{where}: {layout.eval_images / name} is missing; restore it")
        else:
            rows.append((name, _relative(layout.eval_images / name, layout.root)))
        seen.setdefault(name, line)
    if has_photos:
        names = {path.name for paths in photos_by_stem(layout.eval_images).values() for path in paths}
        if unlisted := sorted(names - set(table.ImageID)):
            warnings.append(
                f"{layout.eval_images}: {len(unlisted)} photos are not in info.csv, first {printable(unlisted[0])}"
            )
    return pd.DataFrame(rows, columns=IMAGE_COLUMNS[:2])


def printable(name: str) -> str:
    """A file name with bytes that are not UTF-8 escaped, so that it can be printed."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def raise_faults(faults: list[str], root: Path, hint: str = "") -> None:
    """Raise one UserError that lists all faults, if there are any. hint: another way than to fix the files."""
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise UserError(f"{root}: {count} in the data; fix the files and run again{hint}:\n{indented_list(faults)}")
