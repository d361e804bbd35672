"""Read and check a prepared folder: images.csv, folds.csv, eval.csv and dataset.json."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.data.damaged_photos import skipped_eval_ids
from maskfold.data.folds import check_folds
from maskfold.errors import UserError, short_repr
from maskfold.fileio import read_json
from maskfold.format_version import PREPARED, check_format
from maskfold.json_record import Count, JsonRecord, check_record
from maskfold.labels import GENDERS, PHOTOS_PER_PERSON, age_group, encode_label

IMAGES_FILE, FOLDS_FILE, EVAL_FILE, META_FILE = "images.csv", "folds.csv", "eval.csv", "dataset.json"
PREPARED_COLUMNS = {
    IMAGES_FILE: ("image_id", "path", "person_id", "kind", "gender", "age", "mask", "label"),
    FOLDS_FILE: ("person_id", "gender", "age", "fold"),
    EVAL_FILE: ("image_id", "path"),
}
TEXT = dict.fromkeys(("image_id", "path", "person_id", "kind", "gender"), str)


class AppliedCorrections(JsonRecord):
    """The report of apply_corrections(), with the hash of the file."""

    file: str
    changed: list[str]
    already_so: Count
    not_in_data: list[str]
    sha256: str


class Counts(JsonRecord):
    people: Count
    images: Count
    eval_images: Count
    folds: Count


class Meta(JsonRecord):
    """The keys of dataset.json that are read."""

    root: str
    eval: str
    counts: Counts
    fingerprint: str
    eval_fingerprint: str
    fold_seed: Count | None
    corrections: AppliedCorrections | None
    warnings: list[str]


@dataclass(frozen=True)
class Prepared:
    """A prepared folder: tables images, folds and evaluation (None without an eval set), and dataset.json as meta."""

    folder: Path
    images: pd.DataFrame
    folds: pd.DataFrame
    evaluation: pd.DataFrame | None
    meta: dict

    @property
    def num_folds(self) -> int:
        return int(self.folds.fold.max()) + 1

    @property
    def identity(self) -> str:
        """Hash of photos, labels and the folds of people; a run is resumed only on data with the same identity."""
        folds = self.folds.sort_values("person_id")
        lines = "\n".join(f"{person} {fold}" for person, fold in zip(folds.person_id, folds.fold, strict=True))
        return hashlib.sha256(f"{self.meta['fingerprint']}\n{lines}".encode()).hexdigest()[:16]

    @property
    def people(self) -> pd.DataFrame:
        """person_id, gender, age and fold of all people, with the labels of images.csv.

        folds.csv is kept when the data is prepared again, so its genders and ages may be older than later corrections.
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
        """ImageIDs of info.csv that are not in the table of eval photos, because they cannot be read."""
        return skipped_eval_ids(self.meta)

    @property
    def num_eval_people(self) -> int:
        """Number of people in the eval set, from its number of photos; 0 without an eval set."""
        num_photos = 0 if self.evaluation is None else len(self.evaluation) + len(self.skipped_eval_ids)
        return round(num_photos / PHOTOS_PER_PERSON)

    def row_indices(self, image_id: Iterable[str]) -> np.ndarray:
        """Rows of images.csv and of its store, int [N]. Raises KeyError for an unknown id."""
        rows = {name: row for row, name in enumerate(self.images.image_id)}
        return np.array([rows[name] for name in image_id], int)

    def photo_paths(self, table: pd.DataFrame) -> list[Path]:
        return [Path(self.meta["root"]) / path for path in table.path]


def fingerprint(table: pd.DataFrame, contents: Sequence[str]) -> str:
    """16 hex digits of the ids, labels (if any) and photo contents of a table, not of its paths.

    contents: sha1 of each photo.
    """
    digest = hashlib.sha256()
    for name, content in zip(table.image_id, contents, strict=True):
        digest.update(f"{name} {content}\n".encode())
    if "label" in table:
        digest.update(" ".join(map(str, table.label)).encode())
    return digest.hexdigest()[:16]


def _fix(folder: Path) -> str:
    return f"delete {folder} and prepare the data again (scripts/prepare.py), which makes new folds"


def read_meta(folder: Path) -> dict:
    """Read dataset.json. Raises UserError if it is missing, invalid or of a newer format version."""
    meta = read_json(folder / META_FILE, _fix(folder))
    check_format(folder / META_FILE, meta, PREPARED, _fix(folder))
    check_record(folder / META_FILE, meta, Meta, _fix(folder))
    return meta


def read_prepared_table(folder: Path, name: str) -> pd.DataFrame:
    """Read images.csv, folds.csv or eval.csv. Raises UserError if it is missing, invalid or lacks a column."""
    path = folder / name
    try:
        # index_col: with more cells than columns, pandas would take the first column for the index.
        table = pd.read_csv(path, dtype=TEXT, keep_default_na=False, index_col=False)
    except (OSError, ValueError, OverflowError) as fault:
        reason = str(fault).rpartition("error: ")[2].strip()
        raise UserError(f"{path}: not readable ({reason}); {_fix(folder)}") from fault
    if missing := [column for column in PREPARED_COLUMNS[name] if column not in table]:
        raise UserError(f"{path}: column {', '.join(missing)} is missing; {_fix(folder)}")
    for column in ("fold", "age", "mask", "label"):
        if column in PREPARED_COLUMNS[name] and not _are_small_counts(table[column]):
            raise UserError(f"{path}: {column} must contain integers from 0; {_fix(folder)}")
    if "image_id" in PREPARED_COLUMNS[name] and table.image_id.duplicated().any():
        twice = table.image_id[table.image_id.duplicated()].iloc[0]
        raise UserError(f"{path}: image_id {short_repr(twice)} occurs twice; {_fix(folder)}")
    if table.empty:
        raise UserError(f"{path}: has no rows; {_fix(folder)}")
    return table


def _are_small_counts(column: pd.Series) -> bool:
    return pd.api.types.is_integer_dtype(column) and bool(column.between(0, 2**31).all())


def load_prepared(folder: Path) -> Prepared:
    """Read and check a prepared folder. Raises UserError if a file is missing, invalid or contradicts another."""
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
    return Prepared(folder, images, folds, evaluation, meta)
