"""List the people and photos of a raw data folder. All faults are collected, so that one error reports them all."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from maskfold.data.name_matching import DiskNames, Names, name_key, near_match_warning, points_outside
from maskfold.data.raw_csv import EVAL_COLUMNS, read_table
from maskfold.data.raw_layout import Layout
from maskfold.data.train_csv import PEOPLE_COLUMNS, read_people
from maskfold.errors import UserError, indented_list
from maskfold.labels import GENDERS, KIND_MASK, age_group, encode_label

if TYPE_CHECKING:
    import pandas as pd

IMAGE_COLUMNS = ("image_id", "path", "person_id", "kind")
PHOTO_ENDINGS = {".jpg", ".jpeg", ".png"}


@dataclass
class Catalog:
    """The people, photos, faults (train_faults and eval_faults) and warnings of a raw data folder.

    people has the columns id, person_id (the folder as train.csv writes it), gender and age in years. images has
    image_id, path, person_id and kind. evaluation has image_id and path, in the order of info.csv; it is None without
    an eval set. Paths inside the root are relative to the root, other paths are absolute. Warnings contain only
    relative paths, so that they stay the same when the data is moved.
    """

    people: pd.DataFrame
    images: pd.DataFrame
    evaluation: pd.DataFrame | None
    train_faults: list[str] = field(default_factory=list)
    eval_faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def eval_table(self) -> pd.DataFrame:
        """The table `evaluation`, without rows if there is no eval set."""
        return self.images.iloc[:0][["image_id", "path"]] if self.evaluation is None else self.evaluation


def read_catalog(layout: Layout) -> Catalog:
    """List people and photos, and all faults that can be found without opening a photo."""
    import pandas as pd

    train_faults: list[str] = []
    eval_faults: list[str] = []
    warnings: list[str] = []
    people, images, evaluation = pd.DataFrame(columns=PEOPLE_COLUMNS), pd.DataFrame(columns=IMAGE_COLUMNS), None
    # train.csv and info.csv are read separately, so that a failure to read one does not hide the faults of the other.
    try:
        people, folders = read_people(layout, train_faults, warnings)
        images = _find_photos(folders, layout, train_faults, warnings)
    except UserError as error:
        train_faults.append(str(error))
    try:
        evaluation = _read_eval(layout, eval_faults, warnings)
    except UserError as error:
        eval_faults.append(str(error))
    return Catalog(people, images, evaluation, train_faults, eval_faults, warnings)


def with_labels(images: pd.DataFrame, people: pd.DataFrame, swapped: Collection[str] = frozenset()) -> pd.DataFrame:
    """Add the columns gender, age, mask (0..2) and label (0..17) to the table of photos.

    swapped: person_ids of the people whose incorrect_mask and normal photos exchange their mask classes.
    """
    table = images.merge(people[["person_id", "gender", "age"]], on="person_id", how="left", validate="many_to_one")
    mask = table.kind.map(KIND_MASK)
    is_swapped = table.person_id.isin(swapped) & (mask > 0)
    table["mask"] = mask.where(~is_swapped, 3 - mask)
    table["label"] = encode_label(table["mask"], table.gender.map(GENDERS.index), age_group(table.age))
    return table


def photos_by_stem(folder: Path) -> dict[str, list[Path]]:
    """Return {stem: paths} of the photos in a folder; files whose names start with a dot are ignored."""
    by_stem = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and name_key(path.suffix) in PHOTO_ENDINGS and path.is_file():
            by_stem[path.stem].append(path)
    return by_stem


def _relative(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path.absolute()).as_posix()


def _find_photos(
    folders: dict[str, Path | None], layout: Layout, faults: list[str], warnings: list[str]
) -> pd.DataFrame:
    if not layout.train_images.is_dir():
        raise UserError(f"{layout.train_images}: no such folder; it must contain one folder per person")
    rows = []
    for person, folder in folders.items():
        if folder is None:
            continue
        remaining = photos_by_stem(folder)
        stems = Names(remaining)
        for kind in KIND_MASK:
            stem = stems.find(kind)
            paths = [] if stem is None else remaining.pop(stem, [])
            if not paths:
                unused_stems = Names(stem for stem in remaining if stem not in KIND_MASK)
                fix = unused_stems.hint(kind) or "; restore it (jpg, jpeg or png)"
                faults.append(f"{folder / kind}: the photo is missing{fix}")
            elif len(paths) > 1:
                names = " and ".join(path.name for path in paths)
                faults.append(f"{folder}: {names} are two files of the same photo; keep one of them")
            else:
                rows.append((f"{person}/{kind}", _relative(paths[0], layout.root), person, kind))
        if remaining:
            unused = ", ".join(printable(path.name) for paths in remaining.values() for path in paths)
            warnings.append(f"{layout.name_of(folder)}: not used: {unused}")
    listed = {path.relative_to(layout.train_images).parts[0] for path in folders.values() if path is not None}
    on_disk = {path.name for path in layout.train_images.iterdir() if path.is_dir() and not path.name.startswith(".")}
    unlisted = sorted(on_disk - listed)
    # A fault in a row of train.csv also makes its folder unlisted, so there is no warning if there are faults.
    if unlisted and not faults:
        warnings.append(
            f"{layout.name_of(layout.train_images)}: {len(unlisted)} folders are not in train.csv, for example "
            f"{printable(unlisted[0])}"
        )
    import pandas as pd

    return pd.DataFrame(rows, columns=IMAGE_COLUMNS)


def _read_eval(layout: Layout, faults: list[str], warnings: list[str]) -> pd.DataFrame | None:
    if layout.eval_dir.exists() and not layout.eval_dir.is_dir():
        raise UserError(f"{layout.eval_dir}: is a file; it must be the folder that contains info.csv and images/")
    has_photos = layout.eval_images.is_dir() and any(photos_by_stem(layout.eval_images))
    if not layout.info_csv.exists():
        if has_photos:
            raise UserError(f"{layout.info_csv}: not found, but {layout.eval_images} contains photos; restore it")
        warnings.append(f"{layout.name_of(layout.eval_dir)}: no eval set; no submission can be made")
        return None
    disk = DiskNames(layout.eval_images)
    table = read_info(layout.info_csv, layout.eval_images, faults)
    rows, near_matches = [], []
    line_by_photo: dict[object, int] = {}
    for line, name in table.ImageID.items():
        where, path = f"{layout.info_csv} line {line}", None
        if points_outside(name):
            faults.append(f"{where}: ImageID {name!r} points outside eval/images; write the name of the file")
            continue
        path = disk.find(name)
        first_line = line_by_photo.setdefault(path or name, line)
        if first_line != line:
            faults.append(f"{where}: ImageID {name} is already listed in line {first_line}; keep one of them")
        elif path is None or not path.is_file():
            faults.append(f"{where}: {layout.eval_images / name} is missing{disk.hint(name) or '; restore it'}")
        else:
            # The ImageID is kept as info.csv writes it, because predictions are matched with info.csv by ImageID.
            rows.append((name, _relative(path, layout.root)))
            if not disk.is_exact(name.strip()):
                near_matches.append(f"{name} (on disk {path.relative_to(layout.eval_images)})")
    warnings += near_match_warning(near_matches, layout.name_of(layout.info_csv))
    if has_photos:
        photos = {path for paths in photos_by_stem(layout.eval_images).values() for path in paths}
        if unlisted := sorted(path.name for path in photos - line_by_photo.keys()):
            warnings.append(
                f"{layout.name_of(layout.eval_images)}: {len(unlisted)} photos are not in info.csv, for example "
                f"{printable(unlisted[0])}"
            )
    import pandas as pd

    return pd.DataFrame(rows, columns=IMAGE_COLUMNS[:2])


def read_info(info_csv: Path, eval_images: Path, faults: list[str] | None = None) -> pd.DataFrame:
    """Read info.csv; the ImageIDs are kept exactly as written. See read_table for `faults` and the errors raised.

    eval_images: the folder of the eval photos. An info.csv in CP949 is accepted only if this folder has every ImageID.
    """
    disk = DiskNames(eval_images)
    return read_table(
        info_csv, EVAL_COLUMNS, faults=faults, names_exist=lambda table: all(map(disk.find, table.ImageID))
    )


def printable(name: str) -> str:
    """Escape the bytes of a file name that are not UTF-8, so that the name can be printed."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def raise_faults(faults: list[str], root: Path, hint: str = "") -> None:
    """Raise one UserError that lists all faults, if there are any. hint: text after `run again` in the message."""
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise UserError(f"{root}: {count} in the data; fix the files and run again{hint}:\n{indented_list(faults)}")
