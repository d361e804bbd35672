"""People -> folds: the only place where a fold is made."""

import numpy as np
import pandas as pd

from maskfold.errors import UserError
from maskfold.labels import GENDERS, NUM_CLASSES, age_group, encode, stratum


def make_folds(people: pd.DataFrame, folds: int, seed: int) -> tuple[pd.DataFrame, list[str]]:
    """Deal people into `folds`, stratified by gender x age group; returns (person_id, gender, age, fold) and warnings.

    Shuffled people are sorted by bin and dealt out in turn: the folds' numbers of a bin, and of everybody, differ by
    one at most. It is StratifiedKFold's allocation, and it stands where every bin has fewer people than there are
    folds, which sklearn refuses. Raises UserError for more folds than people.
    """
    if folds > len(people):
        raise UserError(f"folds {folds}: there are only {len(people)} people; ask for fewer folds")
    table = people.sort_values("person_id")[["person_id", "gender", "age"]].reset_index(drop=True)
    bins = stratum(encode(0, table.gender.map(GENDERS.index), age_group(table.age)))
    table["fold"] = assign_folds(bins, folds, seed)
    counts = np.bincount(bins, minlength=bins.max() + 1)
    rarest = counts[counts > 0].min()
    warnings = []
    if rarest < folds:
        warnings.append(
            f"{folds} folds, but the rarest gender x age group has {rarest} people: some folds have none of it"
        )
    return table, warnings


def assign_folds(bins: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold for each person, int [P], by the person's bin, int [P]: shuffled, sorted by bin, dealt out in turn."""
    order = np.random.default_rng(seed).permutation(len(bins))
    order = order[np.argsort(bins[order], kind="stable")]
    dealt = np.empty(len(bins), int)
    dealt[order] = np.arange(len(bins)) % folds
    return dealt


def split(images: pd.DataFrame, folds: pd.DataFrame, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of `images` that train and that validate fold `fold`.

    Raises UserError where folds.csv does not hold exactly the people of images.csv, each once.
    """
    check_folds(images, folds)
    validates = images.person_id.map(folds.set_index("person_id").fold).to_numpy() == fold
    train, valid = np.flatnonzero(~validates), np.flatnonzero(validates)
    if shared := set(images.person_id.iloc[train]) & set(images.person_id.iloc[valid]):
        raise UserError(f"folds.csv: {min(shared)} is on both sides of fold {fold}; draw folds anew")
    return train, valid


def check_folds(images: pd.DataFrame, folds: pd.DataFrame) -> None:
    twice = folds.person_id[folds.person_id.duplicated()]
    if len(twice):
        raise UserError(
            f"folds.csv: person {twice.iloc[0]} is listed twice; delete the prepared folder to draw folds anew"
        )
    numbers = set(folds.fold)
    if len(numbers) < 2 or numbers != set(range(len(numbers))):
        raise UserError(
            f"folds.csv: its folds are {sorted(numbers)}, not 0, 1, ... without a gap; restore the file, or delete the "
            "prepared folder to draw folds anew"
        )
    differing = set(images.person_id) ^ set(folds.person_id)
    if differing:
        raise UserError(
            f"folds.csv: holds other people than the data ({len(differing)} differ, first {min(differing)}); folds are "
            "never redrawn: choose another prepared folder, or delete this one"
        )


def largest_share_difference(images: pd.DataFrame, folds: pd.DataFrame) -> float:
    """Over the classes: the largest relative difference between two folds' shares of a class, (max - min) / max."""
    fold = images.person_id.map(folds.set_index("person_id").fold)
    counts = np.zeros((fold.max() + 1, NUM_CLASSES))
    np.add.at(counts, (fold, images.label), 1)
    shares = counts / counts.sum(1, keepdims=True)
    present = shares.max(0) > 0
    return float(((shares.max(0) - shares.min(0)) / np.where(present, shares.max(0), 1)).max())
