"""Scores, calibration and kinds of error by gender, age group and their combinations."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from maskfold.labels import AGE_GROUPS, GENDERS, NUM_CLASSES, decode_label
from maskfold.metrics.bootstrap import DEFAULT_RESAMPLING, People, Resampling, percentile_interval
from maskfold.metrics.calibration import reliability
from maskfold.metrics.scores import TALLY_COLUMNS, f1_per_class
from maskfold.probabilities import OutOfFold

# The bootstrap interval of a group with fewer people than this is not reliable.
MIN_PEOPLE = 5
ERRORS = ("mask_wrong", "gender_wrong", "too_young", "too_old")


def classes_by_group() -> dict[str, list[int]]:
    """Return {name of a group: its classes} for the two genders, the three age groups and their six combinations."""
    _, gender, age = decode_label(range(NUM_CLASSES))
    is_member = {name: gender == index for index, name in enumerate(GENDERS)}
    is_member |= {name: age == index for index, name in enumerate(AGE_GROUPS)}
    is_member |= {
        f"{gender_name}, {age_name}": (gender == i) & (age == j)
        for i, gender_name in enumerate(GENDERS)
        for j, age_name in enumerate(AGE_GROUPS)
    }
    return {name: np.flatnonzero(mask).tolist() for name, mask in is_member.items()}


def groups_of_same_kind(name: str) -> list[str]:
    """Return all groups of the same kind as `name`: the two genders, the three age groups, or the six combinations."""
    kinds = (GENDERS, AGE_GROUPS, tuple(set(classes_by_group()) - {*GENDERS, *AGE_GROUPS}))
    return next(sorted(kind) for kind in kinds if name in kind)


def scores_by_group(oof: OutOfFold, resampling: Resampling = DEFAULT_RESAMPLING) -> pd.DataFrame:
    """Score each group that has people; the index of the table is the name of the group.

    The groups follow the labels of the data set. The table has these columns:
    - people, photos: counts
    - accuracy: 0 to 1; f1: mean F1 of the group's classes
    - gap: accuracy minus the accuracy of all other people
    - overconfidence: mean confidence minus accuracy; calibration_error: ECE
    - mask_wrong, gender_wrong, too_young, too_old: shares of the photos, 0 to 1; one prediction may count in several
    - <name>_ci95: [low, high] for accuracy, f1, gap and overconfidence, from a bootstrap over people within gender x
      age strata; gap_ci95 is None if all people are in the group
    - gap_upper95: upper bound of the gap; NaN for a group with fewer than MIN_PEOPLE people

    The bounds gap_upper95 of all groups hold simultaneously with 95 % confidence. Each is gap + c standard errors; c is
    the 95 % quantile, over the resamples, of the largest absolute deviation of any group's gap in standard errors
    (Westfall & Young 1993).
    """
    resampler = People(oof.label, oof.person_id)
    mask, gender, age = decode_label(oof.label)
    pred_mask, pred_gender, pred_age = decode_label(oof.pred_labels)
    columns = [np.ones(len(oof.label)), oof.pred_labels == oof.label, oof.probs.max(1)]
    columns += [pred_mask != mask, pred_gender != gender, pred_age < age, pred_age > age]
    classes = {name: members for name, members in classes_by_group().items() if np.isin(oof.label, members).any()}
    values = np.stack(columns, 1)
    is_member = np.stack([np.isin(oof.label, members) for members in classes.values()], 1)
    # The contribution of each person to the sums of each group, [P, G, columns].
    sums = np.zeros((len(resampler), len(classes), values.shape[1]))
    np.add.at(sums, resampler.person_index, is_member[:, :, None] * values[:, None, :])
    whole = np.zeros((len(resampler), 1, values.shape[1]))
    np.add.at(whole, resampler.person_index, values[:, None, :])
    tallies = resampler.tally(oof.label, oof.pred_labels)[..., TALLY_COLUMNS["all"]]
    samples = resampler.resample(np.random.default_rng(resampling.seed), resampling.count)

    members = list(classes.values())
    estimates = _statistics(sums.sum(0), whole.sum(0), tallies.sum(0), members)
    resampled = [resampler.totals(each, samples) for each in (sums, whole, tallies)]
    replicates = _statistics(resampled[0], resampled[1], resampled[2], members)
    num_people, num_photos = (sums[..., 0] > 0).sum(0), sums.sum(0)[:, 0].astype(int)
    table = pd.DataFrame({"group": list(classes), "people": num_people, "photos": num_photos})
    for name, points in estimates.items():
        table[name] = points
        bounds = [percentile_interval(values) for values in replicates[name].T]
        table[f"{name}_ci95"] = [None if np.isnan(pair).any() else pair for pair in bounds]
    error = replicates["gap"].std(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.abs(replicates["gap"] - estimates["gap"]) / error
    is_tested = num_people >= MIN_PEOPLE
    varies = is_tested & (error > 0)
    critical = np.percentile(deviation[:, varies].max(1), 95) if varies.any() else 0.0
    table["gap_upper95"] = np.where(is_tested, estimates["gap"] + critical * error, np.nan)
    table["calibration_error"] = [reliability(oof.probs[rows], oof.label[rows]).error for rows in is_member.T]
    shares = sums.sum(0)[:, 3:] / sums.sum(0)[:, :1]
    return table.assign(**dict(zip(ERRORS, shares.T, strict=True))).set_index("group")


def _statistics(
    sums: np.ndarray, whole: np.ndarray, tallies: np.ndarray, classes: Sequence[Sequence[int]]
) -> dict[str, np.ndarray]:
    """Compute each statistic by group, [..., G].

    sums: sums of each group, [..., G, columns]; whole: sums of all people, [..., 1, columns]; tallies: [..., 3, 18];
    classes: the classes of each group. The first three columns are the numbers of photos and of correct predictions,
    and the sum of the confidences.
    """
    rest = whole - sums
    with np.errstate(invalid="ignore"):
        accuracy, rest_accuracy = sums[..., 1] / sums[..., 0], rest[..., 1] / rest[..., 0]
        confidence = sums[..., 2] / sums[..., 0]
    f1 = f1_per_class(tallies)
    return {
        "accuracy": accuracy,
        "f1": np.stack([f1[..., members].mean(-1) for members in classes], -1),
        "gap": accuracy - rest_accuracy,
        "overconfidence": confidence - accuracy,
    }
