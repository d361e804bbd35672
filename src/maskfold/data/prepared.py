"""The prepared folder as later stages read it: images.csv, folds.csv, eval.csv and dataset.json, checked."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from maskfold.errors import UserError
from maskfold.files import read_json
from maskfold.labels import PHOTOS_PER_PERSON

IMAGES, FOLDS, EVALUATION, META = "images.csv", "folds.csv", "eval.csv", "dataset.json"
COLUMNS = {
    IMAGES: ("image_id", "path", "person_id", "kind", "gender", "age", "mask", "label"),
    FOLDS: ("person_id", "gender", "age", "fold"),
    EVALUATION: ("image_id", "path"),
}
TEXT = dict.fromkeys(("image_id", "path", "person_id", "kind", "gender"), str)
META_KEYS = ("root", "eval", "counts", "fingerprint", "fold_seed", "corrections", "warnings")


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
    def eval_people(self) -> int:
        """People on the eval side, by its photos; 0 without one."""
        return 0 if self.evaluation is None else round(len(self.evaluation) / PHOTOS_PER_PERSON)

    def photo_paths(self, table: pd.DataFrame) -> list[Path]:
        return [Path(self.meta["root"]) / path for path in table.path]


def read_meta(folder: Path) -> dict:
    """dataset.json. Raises UserError where it is missing or broken."""
    mend = f"delete {folder} and prepare the data again (scripts/prepare.py)"
    meta = read_json(folder / META, mend)
    if missing := [key for key in META_KEYS if key not in meta]:
        raise UserError(f"{folder / META}: {', '.join(missing)} is missing; {mend}")
    return meta


def read_part(folder: Path, name: str) -> pd.DataFrame:
    """One of the folder's tables. Raises UserError where it is missing, broken or lacks a column."""
    path = folder / name
    mend = f"delete {folder} and prepare the data again (scripts/prepare.py); folds are then drawn anew"
    try:
        table = pd.read_csv(path, dtype=TEXT, keep_default_na=False)
    except (OSError, ValueError) as fault:
        raise UserError(f"{path}: not readable ({fault}); {mend}") from fault
    if missing := [column for column in COLUMNS[name] if column not in table]:
        raise UserError(f"{path}: column {', '.join(missing)} is missing; {mend}")
    for column in ("fold", "label"):
        if column in COLUMNS[name] and (not pd.api.types.is_integer_dtype(table[column]) or table[column].lt(0).any()):
            raise UserError(f"{path}: {column} must be whole numbers from 0; {mend}")
    return table


def load_prepared(folder: Path) -> Prepared:
    """Read a prepared folder. Raises UserError where it is incomplete."""
    meta = read_meta(folder)
    evaluation = read_part(folder, EVALUATION) if meta["counts"]["eval_images"] else None
    return Prepared(folder, read_part(folder, IMAGES), read_part(folder, FOLDS), evaluation, meta)
