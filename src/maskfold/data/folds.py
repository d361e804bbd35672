"""Assign people to folds, and check the assignment. No other module makes folds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from maskfold.errors import UserError
from maskfold.labels import GENDERS, NUM_CLASSES, age_group, encode_label, stratum

if TYPE_CHECKING:
    import pandas as pd


def make_folds(people: pd.DataFrame, folds: int, seed: int) -> tuple[pd.DataFrame, list[str]]:
    """Assign people to `folds` folds, stratified by gender x age group.

    Returns a table (person_id, gender, age, fold) and warnings. The sizes of the folds, in total and per gender x age
    group, differ by at most one. The sizes equal those of sklearn's StratifiedKFold, but this function also works if
    every group has fewer people than there are folds. Raises UserError for more folds than people.
    """
    if folds > len(people):
        raise UserError(f"folds {folds}: there are only {len(people)} people; ask for fewer folds")
    table = people.sort_values("person_id")[["person_id", "gender", "age"]].reset_index(drop=True)
    table["fold"] = assign_folds(_strata(table), folds, seed)
    return table, fold_warnings(people, folds)


def fold_warnings(people: pd.DataFrame, folds: int) -> list[str]:
    """Return a warning if a gender x age group has fewer people than there are folds, else an empty list."""
    counts = np.bincount(_strata(people))
    smallest = counts[counts > 0].min()
    if smallest >= folds:
        return []
    return [
        f"the smallest gender x age group has fewer people ({smallest}) than there are folds ({folds}), so some folds "
        "contain nobody of this group"
    ]


def _strata(people: pd.DataFrame) -> np.ndarray:
    return stratum(encode_label(0, people.gender.map(GENDERS.index), age_group(people.age)))


def assign_folds(bins: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each person, int [P]. bins: the stratum (gender x age group) of each person, int [P].

    People are shuffled, sorted by stratum and assigned to the folds in turn.
    """
    order = np.random.default_rng(seed).permutation(len(bins))
    order = order[np.argsort(bins[order], kind="stable")]
    fold = np.empty(len(bins), int)
    fold[order] = np.arange(len(bins)) % folds
    return fold


def split(images: pd.DataFrame, folds: pd.DataFrame, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (train, val): the row numbers in `images` of the training and the validation photos of a fold, int arrays.

    Raises UserError if folds.csv is not valid (see check_folds).
    """
    check_folds(images, folds)
    is_validation = images.person_id.map(folds.set_index("person_id").fold).to_numpy() == fold
    train, val = np.flatnonzero(~is_validation), np.flatnonzero(is_validation)
    if shared := set(images.person_id.iloc[train]) & set(images.person_id.iloc[val]):
        raise UserError(
            f"folds.csv: {min(shared)} is in training and validation of fold {fold}; delete the prepared folder to "
            "make new folds"
        )
    return train, val


def check_folds(images: pd.DataFrame, folds: pd.DataFrame) -> None:
    """Raise UserError if folds.csv is not valid.

    It must list exactly the people of `images`, each once, and at least two folds, numbered 0, 1, ... without a gap.
    """
    repeated = folds.person_id[folds.person_id.duplicated()]
    if len(repeated):
        raise UserError(
            f"folds.csv: person {repeated.iloc[0]} is listed twice; delete the prepared folder to make new folds"
        )
    numbers = set(folds.fold)
    if len(numbers) < 2 or numbers != set(range(len(numbers))):
        raise UserError(
            f"folds.csv: its fold numbers are {sorted(numbers)}; they must be 0, 1, ... without a gap (at least two "
            "folds); restore the file, or delete the prepared folder to make new folds"
        )
    differing = set(images.person_id) ^ set(folds.person_id)
    if differing:
        raise UserError(
            f"folds.csv: its people are not those of the data ({len(differing)} differ, such as {min(differing)}); "
            "existing folds are never changed: use another prepared folder, or delete this one"
        )


def largest_share_difference(images: pd.DataFrame, folds: pd.DataFrame) -> float:
    """Return the largest relative difference between folds in how frequent a class is, 0..1.

    For each class, its share of the photos is computed in every fold, and then (largest share - smallest share) /
    largest share. The result is the maximum over the classes.
    """
    fold = images.person_id.map(folds.set_index("person_id").fold)
    counts = np.zeros((fold.max() + 1, NUM_CLASSES))
    np.add.at(counts, (fold, images.label), 1)
    shares = counts / counts.sum(1, keepdims=True)
    present = shares.max(0) > 0
    return float(((shares.max(0) - shares.min(0)) / np.where(present, shares.max(0), 1)).max())
