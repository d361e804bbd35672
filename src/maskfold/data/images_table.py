"""Read and check a prepared folder: images.csv, folds.csv, eval.csv and dataset.json."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from maskfold.data.cell_values import whole_number
from maskfold.data.damaged_photos import describe_skipped, skipped_eval_ids
from maskfold.data.dataset_record import DatasetRecord, data_identity
from maskfold.data.folds import check_folds, largest_share_difference
from maskfold.data.name_matching import DiskNames
from maskfold.data.raw_csv import read_table
from maskfold.data.raw_layout import find_eval_dir, find_root, name_in_eval_images
from maskfold.errors import UserError, short_repr
from maskfold.fileio import read_json
from maskfold.format_version import PREPARED, check_format
from maskfold.json_record import check_record
from maskfold.labels import GENDERS, PHOTOS_PER_PERSON, age_group, encode_label
from maskfold.places import Places, can_be_path

if TYPE_CHECKING:
    import pandas as pd

IMAGES_FILE, FOLDS_FILE, EVAL_FILE, META_FILE = "images.csv", "folds.csv", "eval.csv", "dataset.json"
PREPARED_COLUMNS = {
    IMAGES_FILE: ("image_id", "path", "person_id", "kind", "gender", "age", "mask", "label"),
    FOLDS_FILE: ("person_id", "gender", "age", "fold"),
    EVAL_FILE: ("image_id", "path"),
}
INTEGERS = ("age", "mask", "label", "fold")
MAX_INTEGER = 2**31


@dataclass(frozen=True)
class Prepared:
    """A prepared folder: the tables images, folds and evaluation (None without an eval set), and dataset.json (meta).

    places: the data and cache folders that the flags of the command give.
    """

    folder: Path
    images: pd.DataFrame
    folds: pd.DataFrame
    evaluation: pd.DataFrame | None
    meta: dict
    places: Places = field(default_factory=Places)

    @cached_property
    def root(self) -> Path:
        """The raw data folder. Raises UserError if it is not found."""
        person = PurePosixPath(self.images.path.iloc[0]).parent
        return find_root(Path(self.meta["root"]), self.folder / META_FILE, person, self.places)

    @cached_property
    def eval_dir(self) -> Path:
        """The folder that contains info.csv and the eval photos (images/). Raises UserError if it is not found."""
        photo = next(map(name_in_eval_images, self.eval_table.image_id, self.eval_table.path), "")
        return find_eval_dir(Path(self.meta["eval"]), self.folder / META_FILE, photo, lambda: self.root, self.places)

    @property
    def num_folds(self) -> int:
        return int(self.folds.fold.max()) + 1

    @property
    def identity(self) -> str:
        """Hash of photos, labels and the fold of each person. A run can be resumed only on data with the same hash."""
        return data_identity(self.meta["fingerprint"], self.fold_by_person)

    @property
    def people(self) -> pd.DataFrame:
        """Table of all people: person_id, gender, age, fold. Gender and age are those of images.csv.

        folds.csv is kept when the data is prepared again, so its genders and ages may lack later corrections.
        """
        labels = self.images.drop_duplicates("person_id")[["person_id", "gender", "age"]]
        return labels.merge(self.folds[["person_id", "fold"]], on="person_id", validate="one_to_one")

    @property
    def fold_by_person(self) -> dict[str, int]:
        return dict(zip(self.folds.person_id, self.folds.fold, strict=True))

    @property
    def eval_table(self) -> pd.DataFrame:
        """The table of eval photos. Raises UserError if the data has no eval set."""
        if self.evaluation is None:
            raise UserError(
                f"{self.meta['eval']}: the data has no eval set; prepare data with an eval set to make a submission"
            )
        return self.evaluation

    @property
    def skipped_eval_ids(self) -> list[str]:
        """ImageIDs of the eval photos that are not in eval.csv, because they cannot be read."""
        return skipped_eval_ids(self.meta)

    @property
    def num_eval_people(self) -> int:
        """Number of people in the eval set, computed from the number of eval photos; 0 without an eval set."""
        num_photos = 0 if self.evaluation is None else len(self.evaluation) + len(self.skipped_eval_ids)
        return round(num_photos / PHOTOS_PER_PERSON)

    def row_indices(self, image_id: Iterable[str]) -> np.ndarray:
        """Return the row numbers of these photos in `images`, int [N]. Raises KeyError for an unknown id."""
        rows = {name: row for row, name in enumerate(self.images.image_id)}
        return np.array([rows[name] for name in image_id], int)

    def photo_paths(self, table: pd.DataFrame) -> list[Path]:
        """Return the paths of training photos or of eval photos; table: rows of `images` or `evaluation`.

        A photo is found even if a copy to another file system has changed the Unicode form or case of its name.
        """
        if "person_id" in table:
            return list(map(DiskNames(self.root).resolve, table.path))
        photos = DiskNames(self.eval_dir / "images")
        return list(map(photos.resolve, map(name_in_eval_images, table.image_id, table.path)))


def _fix(folder: Path) -> str:
    return f"restore {folder}, or prepare the data again into another folder (scripts/prepare.py --out)"


def read_meta(folder: Path) -> dict:
    """Read dataset.json. Raises UserError if the file is missing, invalid or of a newer format version."""
    meta = read_json(folder / META_FILE, _fix(folder))
    check_format(folder / META_FILE, meta, PREPARED, _fix(folder))
    check_record(folder / META_FILE, meta, DatasetRecord, _fix(folder))
    return meta


def read_fold_by_person(folder: Path) -> dict[str, str]:
    """Read folds.csv as {person_id: fold as text} for data_identity, without pandas and without checks."""
    with (folder / FOLDS_FILE).open(encoding="utf-8", newline="") as file:
        return {row["person_id"]: row["fold"] for row in csv.DictReader(file)}


def read_prepared_table(folder: Path, name: str) -> pd.DataFrame:
    """Read images.csv, folds.csv or eval.csv. Raises UserError if the file is missing or invalid, or lacks a column."""
    path = folder / name
    try:
        table = read_table(path, PREPARED_COLUMNS[name]).reset_index(drop=True)
    except UserError as error:
        raise UserError(f"{error}; otherwise {_fix(folder)}") from None
    for column in set(INTEGERS) & set(PREPARED_COLUMNS[name]):
        table[column] = table[column].map(whole_number)
        if table[column].isna().any() or table[column].max() > MAX_INTEGER:
            raise UserError(f"{path}: {column} must contain integers from 0; {_fix(folder)}")
    if "path" in PREPARED_COLUMNS[name] and not table.path.map(can_be_path).all():
        raise UserError(f"{path}: path must contain paths of photos; {_fix(folder)}")
    if "image_id" in PREPARED_COLUMNS[name] and table.image_id.duplicated().any():
        repeated = table.image_id[table.image_id.duplicated()].iloc[0]
        raise UserError(f"{path}: image_id {short_repr(repeated)} occurs twice; {_fix(folder)}")
    return table


def load_prepared(folder: Path, places: Places | None = None) -> Prepared:
    """Read and check a prepared folder. Raises UserError if files are missing, invalid or contradictory."""
    meta = read_meta(folder)
    evaluation = read_prepared_table(folder, EVAL_FILE) if meta["counts"].get("eval_images") else None
    images = read_prepared_table(folder, IMAGES_FILE)
    try:
        expected = encode_label(images["mask"], images.gender.map(GENDERS.index), age_group(images.age))
    except (ValueError, TypeError):
        expected = None
    if expected is None or (expected != images.label).any():
        raise UserError(f"{folder / IMAGES_FILE}: a label does not match its mask, gender and age; {_fix(folder)}")
    folds = read_prepared_table(folder, FOLDS_FILE)
    check_folds(images, folds)
    return Prepared(folder, images, folds, evaluation, meta, places or Places())


def describe(prepared: Prepared) -> list[str]:
    """Return lines of text that describe a prepared folder: warnings, photos left out, corrections, counts, folds."""
    meta, counts = prepared.meta, prepared.meta["counts"]
    lines = [f"warning: {warning}" for warning in meta["warnings"]] + describe_skipped(meta.get("skipped"))
    if applied := meta["corrections"]:
        num_made, num_absent = len(applied["changed"]), len(applied["not_in_data"])
        lines.append(
            f"corrections: {num_made} made, {applied['already_so']} already correct, {num_absent} not in the data"
        )
        lines += [f"  {change}" for change in applied["changed"]]
    lines.append(f"{counts['people']} people, {counts['images']} photos, {counts['eval_images']} eval photos")
    difference = largest_share_difference(prepared.images, prepared.folds)
    lines.append(
        f"{counts['folds']} folds, grouped by person; the share of a class differs between folds by at most "
        f"{difference:.1%} of its largest share"
    )
    return [*lines, f"prepared: {prepared.folder}"]
