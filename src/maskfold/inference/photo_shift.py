"""Whether eval photos differ from training photos as pictures: then local scores may not predict the leaderboard."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.data.images_table import Prepared
from maskfold.data.same_data import check_given_root
from maskfold.errors import UserError
from maskfold.fileio import read_json, write_json
from maskfold.labels import PHOTOS_PER_PERSON
from maskfold.loading.photo_statistics import MEANINGS, STATISTICS, statistics_of_file
from maskfold.metrics.two_sample import auc, compare_samples
from maskfold.progress import parallel_map

# The result, for photos with the fingerprints in it.
SHIFT_FILE = "shift.json"
# Increase it with every change of the statistics or of the test.
SHIFT_VERSION = 1
# At most so many people are compared; more would take longer and hardly change the result.
MAX_SAMPLED_PEOPLE, MAX_SAMPLED_EVAL_PEOPLE = 200, 100
# A single statistic is named if its AUC differs from 0.5 by at least MIN_DIFFERENCE; at most MAX_NAMED are.
MIN_DIFFERENCE, MAX_NAMED = 0.1, 3


def check_shift(prepared: Prepared) -> tuple[dict | None, list[str]]:
    """({auc, threshold, differs, differences}, lines to print: a warning if the eval photos differ, or a note).

    None without an eval set, with too few people, and if most photos can't be read. The result is kept in --cache or in
    the prepared folder.
    """
    if prepared.evaluation is None:
        return None, []
    cache = prepared.places.cache
    paths = [folder / SHIFT_FILE for folder in cache.places(prepared.folder)]
    source = {"version": SHIFT_VERSION} | {key: prepared.meta[key] for key in ("fingerprint", "eval_fingerprint")}
    shift = next((kept for path in paths if (kept := _read(path, source)) is not None), None)
    if shift is None:
        check_given_root(prepared, prepared.images, prepared.evaluation)
        images, evaluation = sample_photos(prepared)
        photos = prepared.photo_paths(images) + prepared.photo_paths(evaluation)
        statistics = np.array(list(parallel_map(_statistics, photos, "comparing train and eval photos", "photos")))
        unreadable = np.isnan(statistics[:, 0])
        if unreadable.mean() > 0.5:
            return None, [
                f"note: train and eval photos are not compared, since {unreadable.sum()} of {len(photos)} can't be "
                f"read, for example {photos[unreadable.argmax()]}"
            ]
        train, evaluated = statistics[: len(images)], statistics[len(images) :]
        people = images.person_id.to_numpy()[~np.isnan(train[:, 0])]
        shift = measure_shift(train[~np.isnan(train[:, 0])], people, evaluated[~np.isnan(evaluated[:, 0])])
        if shift is None:
            return None, []
        content = source | {"shift": shift}
        cache.keep(paths[0], partial(write_json, content=content), "the comparison of train and eval photos")
    return shift, [shift_warning(shift)] if shift["differs"] else []


def sample_photos(prepared: Prepared) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Random rows of images.csv, all of a person or none, and of eval.csv."""
    rng = np.random.default_rng(0)
    images, evaluation = prepared.images, prepared.eval_table
    people = rng.permutation(prepared.folds.person_id.to_numpy())[:MAX_SAMPLED_PEOPLE]
    rows = np.sort(rng.permutation(len(evaluation))[: MAX_SAMPLED_EVAL_PEOPLE * PHOTOS_PER_PERSON])
    return images[images.person_id.isin(people)], evaluation.iloc[rows]


def measure_shift(train: np.ndarray, people: np.ndarray, evaluation: np.ndarray) -> dict | None:
    """Compare photo statistics of training photos [N, S] of `people` [N] with those of eval photos [M, S].

    Returns {auc, threshold, differs, differences: what the eval photos are more or less than the training photos}, or
    None for too few people.
    """
    result = compare_samples(train, people, evaluation)
    if result is None:
        return None
    auc_of = {name: auc(train[:, column], evaluation[:, column]) for column, name in enumerate(STATISTICS)}
    largest = sorted(STATISTICS, key=lambda name: -abs(auc_of[name] - 0.5))
    words = [MEANINGS[name][auc_of[name] < 0.5] for name in largest if abs(auc_of[name] - 0.5) >= MIN_DIFFERENCE]
    return {
        "auc": round(result.auc, 4),
        "threshold": round(result.threshold, 4),
        "differs": result.differs,
        # Several statistics of one meaning are named once.
        "differences": list(dict.fromkeys(words))[:MAX_NAMED] if result.differs else [],
    }


def shift_warning(shift: dict) -> str:
    """The warning of a result that differs."""
    differences = shift["differences"]
    named = f" They are {_listed(differences)}." if differences else ""
    return (
        "warning: the eval photos differ from the training photos, so local scores may not predict the leaderboard: a "
        f"classifier tells them apart with AUC {shift['auc']:.2f} (equal photos: at most {shift['threshold']:.2f})."
        f"{named} Check whether they come from another source, or were resized or re-encoded."
    )


def _statistics(path: Path) -> np.ndarray:
    """The statistics of a photo, float [S]; NaN if it can't be read."""
    try:
        return statistics_of_file(path)
    except (OSError, UserError):
        return np.full(len(STATISTICS), np.nan)


def _read(path: Path, source: dict) -> dict | None:
    """The result that was kept for the same photos, if there is a readable one."""
    try:
        content = read_json(path, "")
    except (OSError, UserError):
        return None
    shift = content.get("shift")
    if {key: content.get(key) for key in source} != source or not isinstance(shift, dict):
        return None
    kinds = {"auc": float, "threshold": float, "differs": bool, "differences": list}
    complete = all(type(shift.get(key)) is kind for key, kind in kinds.items())
    return shift if complete and all(isinstance(word, str) for word in shift["differences"]) else None


def _listed(words: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
