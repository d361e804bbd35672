"""Raw folder -> table of photos. Every fault is found before any is told, so that one run tells them all."""

import os
import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from maskfold.data.raw_csv import EVAL_COLUMNS, TRAIN_COLUMNS, leaves_folder, read_table
from maskfold.data.raw_layout import Layout
from maskfold.errors import UserError, listed
from maskfold.labels import GENDERS, KIND_MASK, POSSIBLE_AGES, age_group, encode

PEOPLE, IMAGES = ("id", "person_id", "gender", "age"), ("image_id", "path", "person_id", "kind")
PHOTO_ENDINGS = {".jpg", ".jpeg", ".png"}


@dataclass
class Catalog:
    """What a raw folder holds; faults, of train/ and of eval/, end the run, `warnings` don't.

    people: id, person_id (the folder), gender, age in years. images: image_id, path, person_id, kind.
    evaluation: image_id, path, in info.csv's order; None without an eval side. Paths are relative to the
    root where they lie in it.
    """

    people: pd.DataFrame
    images: pd.DataFrame
    evaluation: pd.DataFrame | None
    train_faults: list[str] = field(default_factory=list)
    eval_faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_catalog(layout: Layout) -> Catalog:
    """List people and photos, and every fault that can be seen without opening a photo."""
    train_faults: list[str] = []
    eval_faults: list[str] = []
    warnings: list[str] = []
    people, images, evaluation = pd.DataFrame(columns=PEOPLE), pd.DataFrame(columns=IMAGES), None
    # Each table by itself, so that a broken one does not hide the other's faults.
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


def labelled(images: pd.DataFrame, people: pd.DataFrame, swapped: Collection[str] = frozenset()) -> pd.DataFrame:
    """The photos with gender, age, mask 0..2 and label 0..17; `swapped` people's two odd photos exchange masks."""
    table = images.merge(people[["person_id", "gender", "age"]], on="person_id", how="left", validate="many_to_one")
    mask = table.kind.map(KIND_MASK)
    exchange = table.person_id.isin(swapped) & (mask > 0)
    table["mask"] = mask.where(~exchange, 3 - mask)
    table["label"] = encode(table["mask"], table.gender.map(GENDERS.index), age_group(table.age))
    return table


def _read_people(table: pd.DataFrame, path: Path, faults: list[str]) -> pd.DataFrame:
    rows = []
    seen: dict[str, int] = {}
    for line, row in enumerate(table.itertuples(), 2):
        where = f"{path} line {line}"
        folder = row.path
        if leaves_folder(folder):
            faults.append(f"{where}: path {folder!r} leaves train/images; give the folder's name")
            folder = None
        else:
            folder = str(PurePosixPath(folder))
            if folder in seen:
                faults.append(f"{where}: folder {folder} is listed already in line {seen[folder]}; keep one of them")
                folder = None
            seen.setdefault(folder, line)
        if row.gender not in GENDERS:
            faults.append(f"{where}: gender {row.gender!r}; {' or '.join(GENDERS)} is expected")
        # isdigit and \d would take other scripts' digits too.
        age = int(row.age) if re.fullmatch(r"[0-9]{1,3}", row.age.strip()) else -1
        if age not in POSSIBLE_AGES:
            faults.append(
                f"{where}: age {row.age!r}; a whole number, {POSSIBLE_AGES.start} to {POSSIBLE_AGES[-1]}, is expected"
            )
        if folder is not None:
            # A faulty row's photos are looked for as well: all faults at once.
            rows.append((row.id, folder, row.gender, age))
    return pd.DataFrame(rows, columns=PEOPLE)


def photos_in(folder: Path) -> dict[str, list[Path]]:
    """The photos of a folder by their stem; names that start with a dot are passed over."""
    by_stem = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and path.suffix.lower() in PHOTO_ENDINGS and path.is_file():
            by_stem[path.stem].append(path)
    return by_stem


def _relative(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path.absolute()).as_posix()


def _find_photos(people: pd.DataFrame, layout: Layout, faults: list[str], warnings: list[str]) -> pd.DataFrame:
    if not layout.train_images.is_dir():
        raise UserError(f"{layout.train_images}: no such folder; it is the one with a folder a person")
    rows = []
    for person in people.person_id:
        folder = layout.train_images / person
        if not folder.is_dir():
            faults.append(f"{folder}: the folder is missing; {layout.train_csv} lists it")
            continue
        found = photos_in(folder)
        for kind in KIND_MASK:
            paths = found.pop(kind, [])
            if not paths:
                faults.append(f"{folder / kind}: the photo is missing (as jpg, jpeg or png)")
            elif len(paths) > 1:
                names = " and ".join(path.name for path in paths)
                faults.append(f"{folder}: {names} are one photo twice; keep one of them")
            else:
                rows.append((f"{person}/{kind}", _relative(paths[0], layout.root), person, kind))
        if found:
            unused = ", ".join(shown(path.name) for paths in found.values() for path in paths)
            warnings.append(f"{folder}: not used: {unused}")
    listed_folders = {Path(person).parts[0] for person in people.person_id}
    there = (p.name for p in layout.train_images.iterdir() if p.is_dir() and not p.name.startswith("."))
    spare = sorted(set(there) - listed_folders)
    # A folder whose row is faulty is told by its row.
    if spare and not faults:
        warnings.append(f"{layout.train_images}: {len(spare)} folders are not in train.csv, first {shown(spare[0])}")
    return pd.DataFrame(rows, columns=IMAGES)


def _read_eval(layout: Layout, faults: list[str], warnings: list[str]) -> pd.DataFrame | None:
    if layout.eval_dir.exists() and not layout.eval_dir.is_dir():
        raise UserError(f"{layout.eval_dir}: is a file; the folder with info.csv and images is expected")
    has_photos = layout.eval_images.is_dir() and any(photos_in(layout.eval_images))
    if not layout.info_csv.exists():
        if has_photos:
            raise UserError(f"{layout.info_csv}: not found, though {layout.eval_images} holds photos; put it there")
        warnings.append(f"{layout.eval_dir}: no eval side; no submission can be made")
        return None
    table = read_table(layout.info_csv, EVAL_COLUMNS)
    rows = []
    seen: dict[str, int] = {}
    for line, name in enumerate(table.ImageID, 2):
        where = f"{layout.info_csv} line {line}"
        if leaves_folder(name):
            faults.append(f"{where}: ImageID {name!r} leaves eval/images; give the file's name")
        elif name in seen:
            faults.append(f"{where}: ImageID {name} is listed already in line {seen[name]}; keep one of them")
        elif not (layout.eval_images / name).is_file():
            faults.append(f"{where}: {layout.eval_images / name} is missing")
        else:
            rows.append((name, _relative(layout.eval_images / name, layout.root)))
        seen.setdefault(name, line)
    if has_photos:
        there = {path.name for paths in photos_in(layout.eval_images).values() for path in paths}
        if spare := sorted(there - set(table.ImageID)):
            warnings.append(f"{layout.eval_images}: {len(spare)} photos are not in info.csv, first {shown(spare[0])}")
    return pd.DataFrame(rows, columns=IMAGES[:2])


def shown(name: str) -> str:
    """A file's name in characters that can be written, whatever bytes it was given on another system."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def tell(faults: list[str], root: Path) -> None:
    """Raises one UserError with all faults, if there are any."""
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise UserError(f"{root}: {count} in the data; mend the files and run again:\n{listed(faults)}")
