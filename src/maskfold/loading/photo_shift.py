"""Check whether eval photos differ from training photos. If they do, local scores may not predict the leaderboard."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field

from maskfold.data.images_table import Prepared
from maskfold.data.same_data import check_given_root
from maskfold.errors import UserError
from maskfold.fileio import read_json, write_json
from maskfold.json_record import JsonRecord, check_record
from maskfold.labels import PHOTOS_PER_PERSON
from maskfold.loading.photo_statistics import MEANINGS, STATISTICS, statistics_of_file
from maskfold.metrics.two_sample import auc, compare_samples, enough_people
from maskfold.progress import parallel_map

# The file of the result. It also contains the fingerprints of the photos that were compared.
SHIFT_FILE = "shift.json"
# Increase the version whenever the statistics or the test change.
SHIFT_VERSION = 2
# Maximum numbers of photos that are compared. More photos would take longer and hardly change the result.
MAX_SAMPLED_PHOTOS, MAX_SAMPLED_EVAL_PHOTOS = 1400, 700
# The warning describes at most MAX_NAMED differences. Each is a statistic whose own AUC differs from 0.5 by at least
# MIN_DIFFERENCE.
MIN_DIFFERENCE, MAX_NAMED = 0.1, 3
DESCRIPTIONS = {description for meanings in MEANINGS.values() for description in meanings}


def _known_description(text: str) -> str:
    if text not in DESCRIPTIONS:
        raise ValueError("an unknown difference")
    return text


class Shift(JsonRecord):
    """The result of measure_shift."""

    auc: Annotated[float, Field(ge=0, le=1)]
    threshold: Annotated[float, Field(ge=0, le=1)]
    differs: bool
    differences: list[Annotated[str, AfterValidator(_known_description)]]


class ShiftFile(JsonRecord):
    """The content of shift.json; shift is None if there are too few people."""

    shift: Shift | None


def check_shift(prepared: Prepared) -> tuple[dict | None, list[str]]:
    """Compare eval photos with training photos. Return (result, lines to print: a warning, a note or none).

    result: {auc, threshold, differs, differences}, see measure_shift. It is None if there is no eval set, if there are
    too few people, or if the photos are not found or most of them can't be read. The result is kept in --cache or the
    prepared folder. A new comparison raises UserError if --data.root has other photos than those that were prepared.
    """
    if prepared.evaluation is None:
        return None, []
    cache = prepared.places.cache
    paths = [folder / SHIFT_FILE for folder in cache.folders(prepared.folder)]
    source = {"version": SHIFT_VERSION} | {key: prepared.meta[key] for key in ("fingerprint", "eval_fingerprint")}
    content = next((cached for path in paths if (cached := _read(path, source)) is not None), None)
    if content is None:
        if not enough_people(len(prepared.folds), len(prepared.evaluation)):
            return None, []
        # A wrong --data.root is an error. Without this flag, missing photos are only reported in a note.
        check_given_root(prepared, prepared.images, prepared.evaluation)
        try:
            content = source | {"shift": _measure(prepared)}
        except UserError as error:
            return None, [f"note: skipped the comparison of training and eval photos: {error}"]
        cache.keep(paths[0], partial(write_json, content=content), "the comparison of train and eval photos")
    shift = content["shift"]
    return shift, [shift_warning(shift)] if shift is not None and shift["differs"] else []


def _measure(prepared: Prepared) -> dict | None:
    """Apply measure_shift to a sample. Raises UserError if the photos are not found or most of them can't be read."""
    images, evaluation = sample_photos(prepared)
    photos = prepared.photo_paths(images) + prepared.photo_paths(evaluation)
    statistics = np.array(list(parallel_map(_statistics, photos, "comparing train and eval photos", "photos")))
    unreadable = np.isnan(statistics[:, 0])
    is_eval = np.arange(len(photos)) >= len(images)
    if max(unreadable[is_eval].mean(), unreadable[~is_eval].mean()) > 0.5:
        example = photos[unreadable.argmax()]
        raise UserError(
            f"{unreadable.sum()} of {len(photos)} photos can't be read, for example {example}; restore them"
        )
    people = images.person_id.to_numpy()[~unreadable[: len(images)]]
    train, evaluated = statistics[~unreadable & ~is_eval], statistics[~unreadable & is_eval]
    return measure_shift(train, people, evaluated, prepared.num_eval_people)


def sample_photos(prepared: Prepared) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows of images.csv and of eval.csv, both sampled at random.

    At most MAX_SAMPLED_EVAL_PHOTOS eval photos are used, and about MAX_SAMPLED_PHOTOS training photos. A training
    person should have as many sampled photos as an eval person, on average. The number of training people is chosen
    accordingly; if the data has fewer, all of them are used.
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
    """Compare the statistics of training photos, `train` [N, S], with those of eval photos, `evaluation` [M, S].

    people: [N], the person of each training photo. num_eval_people: number of people in the eval set from which the
    eval photos were sampled. Returns {auc, threshold, differs, differences}, or None for too few people. differences:
    how the eval photos differ from the training photos, for example "brighter".
    """
    result = compare_samples(train, people, evaluation, num_eval_people)
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
    """Return the warning for a result of measure_shift whose `differs` is true."""
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
    """Read the content of shift.json. Return None if it is missing, not valid or does not match `source`."""
    try:
        content = read_json(path, "")
        check_record(path, content, ShiftFile, "")
    except (OSError, UserError):
        return None
    return content if {key: content.get(key) for key in source} == source else None


def _listed(words: Sequence[str]) -> str:
    """Join words as "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
