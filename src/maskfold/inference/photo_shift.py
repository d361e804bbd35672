"""Check whether eval photos look different from training photos; local scores may then not predict the leaderboard."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.fileio import read_json, write_json
from maskfold.labels import PHOTOS_PER_PERSON
from maskfold.loading.photo_statistics import MEANINGS, STATISTICS, statistics_of_file
from maskfold.metrics.two_sample import auc, compare_samples
from maskfold.progress import parallel_map

# The file of the result. It also has the fingerprints of the photos that were compared.
SHIFT_FILE = "shift.json"
# Increase the version with every change of the statistics or of the test.
SHIFT_VERSION = 1
# Maximum number of people that are compared; more would take longer and hardly change the result.
MAX_SAMPLED_PEOPLE, MAX_SAMPLED_EVAL_PEOPLE = 200, 100
# The warning names statistics whose own AUC differs from 0.5 by at least MIN_DIFFERENCE, but at most MAX_NAMED of them.
MIN_DIFFERENCE, MAX_NAMED = 0.1, 3


def check_shift(prepared: Prepared) -> tuple[dict | None, list[str]]:
    """Compare eval photos with training photos. Return (result, lines to print: a warning, a note or none).

    result: {auc, threshold, differs, differences}; None without an eval set, with too few people, and if most photos
    can't be read. The result is kept in --cache or in the prepared folder.
    """
    if prepared.evaluation is None:
        return None, []
    cache = prepared.places.cache
    paths = [folder / SHIFT_FILE for folder in cache.folders(prepared.folder)]
    source = {"version": SHIFT_VERSION} | {key: prepared.meta[key] for key in ("fingerprint", "eval_fingerprint")}
    shift = next((cached for path in paths if (cached := _read(path, source)) is not None), None)
    if shift is None:
        images, evaluation = sample_photos(prepared)
        photos = prepared.photo_paths(images) + prepared.photo_paths(evaluation)
        statistics = np.array(list(parallel_map(_statistics, photos, "comparing train and eval photos", "photos")))
        unreadable = np.isnan(statistics[:, 0])
        if unreadable.mean() > 0.5:
            return None, [
                f"note: train and eval photos are not compared, since {unreadable.sum()} of {len(photos)} photos can't "
                f"be read, for example {photos[unreadable.argmax()]}"
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
    """Return all rows of images.csv of randomly sampled people, and randomly sampled rows of eval.csv."""
    rng = np.random.default_rng(0)
    images, evaluation = prepared.images, prepared.eval_table
    people = rng.permutation(prepared.folds.person_id.to_numpy())[:MAX_SAMPLED_PEOPLE]
    rows = np.sort(rng.permutation(len(evaluation))[: MAX_SAMPLED_EVAL_PEOPLE * PHOTOS_PER_PERSON])
    return images[images.person_id.isin(people)], evaluation.iloc[rows]


def measure_shift(train: np.ndarray, people: np.ndarray, evaluation: np.ndarray) -> dict | None:
    """Compare photo statistics of training photos [N, S] of `people` [N] with those of eval photos [M, S].

    Returns {auc, threshold, differs, differences}, or None for too few people. differences: descriptions of the eval
    photos in comparison with the training photos, such as "brighter".
    """
    result = compare_samples(train, people, evaluation)
    if result is None:
        return None
    auc_of = {name: auc(train[:, column], evaluation[:, column]) for column, name in enumerate(STATISTICS)}
    largest = sorted(STATISTICS, key=lambda name: -abs(auc_of[name] - 0.5))
    descriptions = [MEANINGS[name][auc_of[name] < 0.5] for name in largest if abs(auc_of[name] - 0.5) >= MIN_DIFFERENCE]
    return {
        "auc": round(result.auc, 4),
        "threshold": round(result.threshold, 4),
        "differs": result.differs,
        # Several statistics may have the same description, which is listed once.
        "differences": list(dict.fromkeys(descriptions))[:MAX_NAMED] if result.differs else [],
    }


def shift_warning(shift: dict) -> str:
    """Return the warning for a result of measure_shift with differs true."""
    differences = shift["differences"]
    description = f" The eval photos are {_listed(differences)}." if differences else ""
    return (
        "warning: the eval photos differ from the training photos, so local scores may not predict the leaderboard: a "
        f"classifier distinguishes them with AUC {shift['auc']:.2f} (expected without a difference: at most "
        f"{shift['threshold']:.2f}).{description} Check whether the eval photos come from another source, or were "
        "resized or re-encoded."
    )


def _statistics(path: Path) -> np.ndarray:
    """Compute the statistics of a photo, float [S]; NaN if the photo can't be read."""
    try:
        return statistics_of_file(path)
    except (OSError, UserError):
        return np.full(len(STATISTICS), np.nan)


def _read(path: Path, source: dict) -> dict | None:
    """Read a result that was kept. Return None if it is missing, unreadable or of other photos than `source`."""
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
    """Join words as "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
