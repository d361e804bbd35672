"""How well a run serves whom: scores, calibration and kinds of error by gender, age group and both."""

import numpy as np
import pandas as pd

from maskfold.labels import AGE_GROUPS, GENDERS, NUM_CLASSES, decode
from maskfold.metrics.bootstrap import RESAMPLES, People
from maskfold.metrics.calibration import reliability
from maskfold.metrics.scores import COLUMNS, f1_per_class
from maskfold.probabilities import OutOfFold

# Fewer people are too few to resample.
LEAST_PEOPLE = 5
ERRORS = ("mask_wrong", "gender_wrong", "too_young", "too_old")


def groups() -> dict[str, list[int]]:
    """Name -> its classes: both genders, the three age groups, and the six that are both."""
    _, gender, age = decode(range(NUM_CLASSES))
    found = {name: gender == at for at, name in enumerate(GENDERS)}
    found |= {name: age == at for at, name in enumerate(AGE_GROUPS)}
    found |= {
        f"{one}, {other}": (gender == a) & (age == b)
        for a, one in enumerate(GENDERS)
        for b, other in enumerate(AGE_GROUPS)
    }
    return {name: np.flatnonzero(mine).tolist() for name, mine in found.items()}


def alike(name: str) -> list[str]:
    """The groups of its kind: both genders, the three age groups, or the six that are both."""
    kinds = (GENDERS, AGE_GROUPS, tuple(set(groups()) - {*GENDERS, *AGE_GROUPS}))
    return next(sorted(kind) for kind in kinds if name in kind)


def by_group(oof: OutOfFold, seed: int = 0, resamples: int = RESAMPLES) -> pd.DataFrame:
    """A row a group that has people, by their labels as given.

    people, photos; accuracy; f1, the plain mean over the group's classes; gap, accuracy less that of everybody else;
    overconfidence, mean confidence less accuracy; calibration_error; and shares of photos mask_wrong, gender_wrong,
    too_young, too_old (one answer may be wrong in several ways). <name>_ci95 [lo, hi] of accuracy, f1, gap and
    overconfidence, from resampling people within gender x age; None where everybody is in the group.

    most_gap: what the gap is at most, by a 95 % bound that holds for all groups at once (the bootstrap's largest
    deviation in standard errors; Westfall & Young 1993); nan for a group of fewer than LEAST_PEOPLE.
    """
    who = People(oof.label, oof.person_id)
    mask, gender, age = decode(oof.label)
    said_mask, said_gender, said_age = decode(oof.pred_labels)
    photo = [np.ones(len(oof.label)), oof.pred_labels == oof.label, oof.probs.max(1)]
    photo += [said_mask != mask, said_gender != gender, said_age < age, said_age > age]
    # What each person adds to the groups' sums, [P, G, values].
    classes = {name: of for name, of in groups().items() if np.isin(oof.label, of).any()}
    values = np.stack(photo, 1)
    member = np.stack([np.isin(oof.label, of) for of in classes.values()], 1)
    sums = np.zeros((len(who), len(classes), values.shape[1]))
    np.add.at(sums, who.person_index, member[:, :, None] * values[:, None, :])
    whole = np.zeros((len(who), 1, values.shape[1]))
    np.add.at(whole, who.person_index, values[:, None, :])
    tallies = who.tally(oof.label, oof.pred_labels)[..., COLUMNS["all"]]
    drawn = who.resample(np.random.default_rng(seed), resamples)

    def measured(sums: np.ndarray, whole: np.ndarray, tallies: np.ndarray) -> dict[str, np.ndarray]:
        """Sums [..., G, values], of everybody [..., 1, values], tallies [..., 3, 18] -> [..., G] each."""
        rest = whole - sums
        with np.errstate(invalid="ignore"):
            accuracy, others = sums[..., 1] / sums[..., 0], rest[..., 1] / rest[..., 0]
            confidence = sums[..., 2] / sums[..., 0]
        f1 = f1_per_class(tallies)
        return {
            "accuracy": accuracy,
            "f1": np.stack([f1[..., of].mean(-1) for of in classes.values()], -1),
            "gap": accuracy - others,
            "overconfidence": confidence - accuracy,
        }

    found = measured(sums.sum(0), whole.sum(0), tallies.sum(0))
    spread = measured(*(who.totals(each, drawn) for each in (sums, whole, tallies)))
    people, photos = (sums[..., 0] > 0).sum(0), sums.sum(0)[:, 0].astype(int)
    table = pd.DataFrame({"group": list(classes), "people": people, "photos": photos})
    for name, points in found.items():
        table[name] = points
        ends = np.percentile(spread[name], (2.5, 97.5), axis=0).T
        table[f"{name}_ci95"] = [None if np.isnan(pair).any() else pair.tolist() for pair in ends]
    error = spread["gap"].std(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.abs(spread["gap"] - found["gap"]) / error
    can_tell = people >= LEAST_PEOPLE
    varies = can_tell & (error > 0)
    farthest = np.percentile(away[:, varies].max(1), 95) if varies.any() else 0.0
    table["most_gap"] = np.where(can_tell, found["gap"] + farthest * error, np.nan)
    table["calibration_error"] = [reliability(oof.probs[mine], oof.label[mine]).error for mine in member.T]
    shares = sums.sum(0)[:, 3:] / sums.sum(0)[:, :1]
    return table.assign(**dict(zip(ERRORS, shares.T, strict=True))).set_index("group")
