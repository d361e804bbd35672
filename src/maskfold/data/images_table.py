"""The prepared folder as later stages read it: images.csv, folds.csv, eval.csv and dataset.json, checked."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.data.folds import check_folds
from maskfold.errors import UserError
from maskfold.fileio import read_json
from maskfold.format_version import PREPARED, check_format
from maskfold.labels import GENDERS, PHOTOS_PER_PERSON, age_group, encode

IMAGES, FOLDS, EVALUATION, META = "images.csv", "folds.csv", "eval.csv", "dataset.json"
COLUMNS = {
    IMAGES: ("image_id", "path", "person_id", "kind", "gender", "age", "mask", "label"),
    FOLDS: ("person_id", "gender", "age", "fold"),
    EVALUATION: ("image_id", "path"),
}
TEXT = dict.fromkeys(("image_id", "path", "person_id", "kind", "gender"), str)
META_KEYS = ("root", "eval", "counts", "fingerprint", "eval_fingerprint", "fold_seed", "corrections", "warnings")


@dataclass(frozen=True)
class Prepared:
    """A prepared folder in memory: images, folds and evaluation (or None) as tables, meta as dataset.json."""

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
        """What a run is bound to: photos, labels, and who is in which fold."""
        folds = self.folds.sort_values("person_id")
        dealt = "\n".join(f"{who} {fold}" for who, fold in zip(folds.person_id, folds.fold, strict=True))
        return hashlib.sha256(f"{self.meta['fingerprint']}\n{dealt}".encode()).hexdigest()[:16]

    @property
    def people(self) -> pd.DataFrame:
        """person_id, gender, age, fold of everybody, as images.csv labels them.

        folds.csv stands where data is prepared again: its genders and ages are those that the folds were drawn by.
        """
        known = self.images.drop_duplicates("person_id")[["person_id", "gender", "age"]]
        return known.merge(self.folds[["person_id", "fold"]], on="person_id", validate="one_to_one")

    @property
    def eval_table(self) -> pd.DataFrame:
        """The eval photos. Raises UserError where the data has none."""
        if self.evaluation is None:
            raise UserError(f"{self.meta['eval']}: the data has no eval side; no submission can be made")
        return self.evaluation

    @property
    def eval_people(self) -> int:
        """People on the eval side, by its photos; 0 without one."""
        return 0 if self.evaluation is None else round(len(self.evaluation) / PHOTOS_PER_PERSON)

    def rows_of(self, image_id: Iterable[str]) -> np.ndarray:
        """Rows of images.csv, and of its store, int [N]. Raises KeyError for an id that is not there."""
        rows = {name: row for row, name in enumerate(self.images.image_id)}
        return np.array([rows[name] for name in image_id], int)

    def photo_paths(self, table: pd.DataFrame) -> list[Path]:
        return [Path(self.meta["root"]) / path for path in table.path]


def fingerprint(table: pd.DataFrame, contents: Sequence[str]) -> str:
    """Of a table's ids, its photos' contents (sha1 each) and, where it has them, its labels; never of their place."""
    digest = hashlib.sha256()
    for name, content in zip(table.image_id, contents, strict=True):
        digest.update(f"{name} {content}\n".encode())
    if "label" in table:
        digest.update(" ".join(map(str, table.label)).encode())
    return digest.hexdigest()[:16]


def mend(folder: Path) -> str:
    return f"delete {folder} and prepare the data again (scripts/prepare.py); its folds are drawn anew then"


def read_meta(folder: Path) -> dict:
    """dataset.json. Raises UserError where it is missing, broken or of a newer format."""
    meta = read_json(folder / META, mend(folder))
    check_format(folder / META, meta, PREPARED, mend(folder))
    if missing := [key for key in META_KEYS if key not in meta]:
        raise UserError(f"{folder / META}: {', '.join(missing)} is missing; {mend(folder)}")
    return meta


def read_part(folder: Path, name: str) -> pd.DataFrame:
    """One of the folder's tables. Raises UserError where it is missing, broken or lacks a column."""
    path = folder / name
    try:
        table = pd.read_csv(path, dtype=TEXT, keep_default_na=False)
    except (OSError, ValueError) as fault:
        reason = str(fault).rpartition("error: ")[2].strip()
        raise UserError(f"{path}: not readable ({reason}); {mend(folder)}") from fault
    if missing := [column for column in COLUMNS[name] if column not in table]:
        raise UserError(f"{path}: column {', '.join(missing)} is missing; {mend(folder)}")
    for column in ("fold", "age", "mask", "label"):
        if column in COLUMNS[name] and (not pd.api.types.is_integer_dtype(table[column]) or table[column].lt(0).any()):
            raise UserError(f"{path}: {column} must be whole numbers from 0; {mend(folder)}")
    if table.empty:
        raise UserError(f"{path}: has no rows; {mend(folder)}")
    return table


def load_prepared(folder: Path) -> Prepared:
    """Read a prepared folder. Raises UserError where it is incomplete."""
    meta = read_meta(folder)
    evaluation = read_part(folder, EVALUATION) if meta["counts"].get("eval_images") else None
    images = read_part(folder, IMAGES)
    try:
        expected = encode(images["mask"], images.gender.map(GENDERS.index), age_group(images.age))
    except (ValueError, TypeError):
        expected = None
    if expected is None or (expected != images.label).any():
        raise UserError(f"{folder / IMAGES}: a label is not that of its mask, gender and age; {mend(folder)}")
    folds = read_part(folder, FOLDS)
    check_folds(images, folds)
    return Prepared(folder, images, folds, evaluation, meta)
