"""Whether eval photos differ from training photos as pictures: then local scores may not predict the leaderboard."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.fileio import read_json, write_json
from maskfold.json_record import JsonRecord, check_record
from maskfold.labels import PHOTOS_PER_PERSON
from maskfold.loading.photo_statistics import MEANINGS, STATISTICS, statistics_of_file
from maskfold.metrics.two_sample import auc, compare_samples, enough_people
from maskfold.progress import parallel_map

# The result, for photos with the fingerprints in it.
SHIFT_FILE = "shift.json"
# Increase it with every change of the statistics or of the test.
SHIFT_VERSION = 2
# At most so many photos are compared; more would take longer and hardly change the result.
MAX_SAMPLED_PHOTOS, MAX_SAMPLED_EVAL_PHOTOS = 1400, 700
# A single statistic is named if its AUC differs from 0.5 by at least MIN_DIFFERENCE; at most MAX_NAMED are.
MIN_DIFFERENCE, MAX_NAMED = 0.1, 3


class Shift(JsonRecord):
    """A result: auc, threshold, differs, and differences, what the eval photos are more or less than the others."""

    auc: Annotated[float, Field(ge=0, le=1)]
    threshold: Annotated[float, Field(ge=0, le=1)]
    differs: bool
    differences: list[str]


class ShiftFile(JsonRecord):
    """The content of shift.json; shift is None if too few people could be compared."""

    shift: Shift | None


def check_shift(prepared: Prepared) -> tuple[dict | None, list[str]]:
    """({auc, threshold, differs, differences}, lines to print: a warning if the eval photos differ, or a note).

    None without an eval set, with too few people, and if the photos can't be read. The result is kept in --cache or in
    the prepared folder.
    """
    if prepared.evaluation is None:
        return None, []
    cache = prepared.places.cache
    paths = [folder / SHIFT_FILE for folder in cache.places(prepared.folder)]
    source = {"version": SHIFT_VERSION} | {key: prepared.meta[key] for key in ("fingerprint", "eval_fingerprint")}
    content = next((kept for path in paths if (kept := _read(path, source)) is not None), None)
    if content is None:
        if not enough_people(len(prepared.folds), len(prepared.evaluation)):
            return None, []
        try:
            content = source | {"shift": _measure(prepared)}
        except UserError as error:
            return None, [f"note: train and eval photos are not compared: {error}"]
        cache.keep(paths[0], partial(write_json, content=content), "the comparison of train and eval photos")
    shift = content["shift"]
    return shift, [shift_warning(shift)] if shift is not None and shift["differs"] else []


def _measure(prepared: Prepared) -> dict | None:
    """measure_shift of a sample. Raises UserError if the photos are not found or most of them can't be read."""
    images, evaluation = sample_photos(prepared)
    photos = prepared.photo_paths(images) + prepared.photo_paths(evaluation)
    statistics = np.array(list(parallel_map(_statistics, photos, "comparing train and eval photos", "photos")))
    unreadable = np.isnan(statistics[:, 0])
    is_eval = np.arange(len(photos)) >= len(images)
    if max(unreadable[is_eval].mean(), unreadable[~is_eval].mean()) > 0.5:
        example = photos[unreadable.argmax()]
        raise UserError(f"{unreadable.sum()} of {len(photos)} can't be read, for example {example}; restore them")
    people = images.person_id.to_numpy()[~unreadable[: len(images)]]
    train, evaluated = statistics[~unreadable & ~is_eval], statistics[~unreadable & is_eval]
    return measure_shift(train, people, evaluated, prepared.num_eval_people)


def sample_photos(prepared: Prepared) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Random rows of images.csv and of eval.csv.

    The training photos are of so many people that a person has as many of them as of the eval photos, or more where
    there are too few people: with a large eval set one or none of most people, with a small one all.
    """
    rng = np.random.default_rng(0)
    images, evaluation = prepared.images, prepared.eval_table
    rows = np.sort(rng.permutation(len(evaluation))[:MAX_SAMPLED_EVAL_PHOTOS])
    photos_per_person = PHOTOS_PER_PERSON * len(rows) / len(evaluation)
    num_people = round(MAX_SAMPLED_PHOTOS / photos_per_person)
    people = rng.permutation(prepared.folds.person_id.to_numpy())[:num_people]
    images = images[images.person_id.isin(people)]
    chosen = np.sort(rng.permutation(len(images))[:MAX_SAMPLED_PHOTOS])
    return images.iloc[chosen], evaluation.iloc[rows]


def measure_shift(train: np.ndarray, people: np.ndarray, evaluation: np.ndarray, num_eval_people: int) -> dict | None:
    """Compare photo statistics of training photos [N, S] of `people` [N] with those of eval photos [M, S].

    num_eval_people: people in the eval set from which the eval photos were sampled. Returns {auc, threshold, differs,
    differences: what the eval photos are more or less than the training photos}, or None for too few people.
    """
    result = compare_samples(train, people, evaluation, num_eval_people)
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
    """The content of shift.json, if there is a readable one of the same photos."""
    try:
        content = read_json(path, "")
        check_record(path, content, ShiftFile, "")
    except (OSError, UserError):
        return None
    return content if {key: content.get(key) for key in source} == source else None


def _listed(words: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
