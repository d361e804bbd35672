"""People whose label the models that never saw them contradict, by axis; a person's seven photos are one finding."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit

from maskfold.data.corrections import SWAPS
from maskfold.labels import AGE_BORDERS, AGE_GROUPS, AXES, KIND_MASK, MASKS, decode, marginals
from maskfold.metrics.calibration import MIN_PROB
from maskfold.probabilities import OutOfFold

# Of a likelihood ratio, where a rate of 0 lies on the border of what is possible: 5 % (Self & Liang 1987).
SURE = 2.706
# A model's temperature, inverted: with a twentieth certain contradictions would pass for doubt.
LEAST_SLOPE, MOST_SLOPE = 0.2, 50.0
# Axes whose wrong labels this finds; at the ages' borders models err for other reasons.
PROPOSED = ("gender", "mask")
COLUMNS: tuple[str, ...] = ("axis", "rank", "person_id", "field", "given", "suggested", "value")
COLUMNS += ("margin", "photos_against", "photos", "p_wrong", "confident_learning", "proposed")


@dataclass(frozen=True)
class Contamination:
    """How labels and margins of one axis disagree: with rate 0 the models' own doubt explains all of it.

    slope: what a margin's logit is to be multiplied by to be calibrated; rate: share of wrong labels, 0 to .5;
    evidence: twice the log-likelihood that the rate adds to that of no wrong label.
    """

    slope: float
    rate: float
    evidence: float

    def p_wrong(self, margins: np.ndarray) -> np.ndarray:
        """Probability that each label is wrong, float [P]."""
        own = expit(self.slope * margins)
        return self.rate * (1 - own) / (self.rate * (1 - own) + (1 - self.rate) * own)


@dataclass(frozen=True)
class Findings:
    """What is found of each person on one axis, by columns of COLUMNS: arrays [P], or one value for all of them."""

    axis: str
    person_id: np.ndarray
    field: str
    given: np.ndarray | str
    suggested: np.ndarray | str
    value: np.ndarray | str
    margin: np.ndarray
    photos_against: np.ndarray
    photos: np.ndarray
    confident_learning: np.ndarray | None

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(vars(self))


def fit_contamination(margins: np.ndarray) -> Contamination:
    """Binary regression on contaminated labels (Copas 1988), by maximum likelihood.

    margins: float [P], logit of the given label against its best rival, as others' models see it. A label that the
    models are right about is given with probability sigmoid(slope * margin), and turned over at `rate`. A model that
    errs is unsure where it errs, so its errors die out as margins grow; wrong labels don't.
    """

    def loss(at: np.ndarray) -> float:
        slope, rate = np.exp(at[0]), at[1]
        own = expit(slope * margins)
        given = (1 - rate) * own + rate * (1 - own)
        return float(-np.log(np.maximum(given, MIN_PROB)).sum())

    slopes = (np.log(LEAST_SLOPE), np.log(MOST_SLOPE))

    def best(rates: tuple[float, float]):
        starts = [(slope, np.clip(rate, *rates)) for slope in (-1.0, 0.0, 1.0) for rate in (0.01, 0.1)]
        found = [minimize(loss, start, bounds=[slopes, rates], method="L-BFGS-B") for start in starts]
        return min(found, key=lambda each: each.fun)

    free, clean = best((0.0, 0.5)), best((0.0, 0.0))
    return Contamination(float(np.exp(free.x[0])), float(free.x[1]), max(0.0, 2 * float(clean.fun - free.fun)))


def suspects(oof: OutOfFold) -> tuple[pd.DataFrame, dict[str, Contamination]]:
    """COLUMNS of every person on every axis, the most suspect first, and each axis' fit.

    margin: mean over the photos of log P(given) - log P(best other); of exchanged photos the sum over both. field and
    value are a correction's; value is empty where an age group alone is known. Gender and exchanged photos are
    `proposed` for correction where wrong labels are evident on the axis and p_wrong is over a half. Ages are ranked
    only: the models err systematically at the borders, which this fit would take for wrong labels. confident_learning
    (Northcutt et al. 2021, by cleanlab; None without it): whether it calls the label wrong.
    """
    people, first, of_photo = np.unique(oof.person_id, return_index=True, return_inverse=True)
    photos = np.bincount(of_photo)
    probs, given = marginals(oof.probs), dict(zip(AXES, (axis[first] for axis in decode(oof.label)), strict=True))
    tables, fits = [], {}
    for axis in ("gender", "age"):
        logs = np.log(np.maximum(probs[axis].astype(np.float64), MIN_PROB))
        means = np.stack([np.bincount(of_photo, weights=column) for column in logs.T], 1) / photos[:, None]
        own, names = given[axis], np.array(AXES[axis])
        rivals = means.copy()
        rivals[np.arange(len(people)), own] = -np.inf
        other = rivals.argmax(1)
        margins = means[np.arange(len(people)), own] - rivals.max(1)
        against = np.bincount(of_photo, weights=probs[axis].argmax(1) == other[of_photo]).astype(int)
        learned = confident_learning(own, np.exp(means) / np.exp(means).sum(1, keepdims=True))
        values = names[other] if axis == "gender" else np.array([_known_age(group) for group in other])
        findings = Findings(
            axis=axis,
            person_id=people,
            field=axis,
            given=names[own],
            suggested=names[other],
            value=values,
            margin=margins,
            photos_against=against,
            photos=photos,
            confident_learning=learned,
        )
        tables.append(findings.table())
        fits[axis] = fit_contamination(margins)
    tables.append(_exchanged(oof, people, of_photo, probs["mask"]))
    fits["mask"] = fit_contamination(tables[-1].margin.to_numpy())
    found = pd.concat([_ranked(table, fits[table.axis.iloc[0]]) for table in tables if len(table)], ignore_index=True)
    return found[list(COLUMNS)], fits


def _exchanged(oof: OutOfFold, people: np.ndarray, of_photo: np.ndarray, probs: np.ndarray) -> pd.DataFrame:
    """Whether a person's wrongly worn and bare photo bear each other's name: both photos speak."""
    logs = np.log(np.maximum(probs.astype(np.float64), MIN_PROB))
    mask = decode(oof.label)[0]
    odd = np.flatnonzero(mask > 0)
    other = MASKS.index("incorrect") + MASKS.index("not worn") - mask[odd]
    margins = np.bincount(of_photo[odd], logs[odd, mask[odd]] - logs[odd, other], minlength=len(people))
    against = np.bincount(of_photo[odd], probs[odd].argmax(1) == other, minlength=len(people)).astype(int)
    photos = np.bincount(of_photo[odd], minlength=len(people))
    flagged = confident_learning(mask, probs)
    learned = None
    if flagged is not None:
        learned = np.bincount(of_photo[odd], flagged[odd], minlength=len(people)) == photos
    kinds = [kind for kind, worn in KIND_MASK.items() if worn]
    findings = Findings(
        axis="mask",
        person_id=people,
        field="swap",
        given="as named",
        suggested=f"{' and '.join(sorted(kinds))} exchanged",
        value=SWAPS[0],
        margin=margins,
        photos_against=against,
        photos=photos,
        confident_learning=learned,
    )
    return findings.table()[photos == len(kinds)]


def confident_learning(labels: np.ndarray, probs: np.ndarray) -> np.ndarray | None:
    """bool [N]: what cleanlab's confident learning calls wrong; None where it is not installed, or a class is missing.

    labels: int [N]; probs: float [N, C], of models that have not seen them.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return None
    if len(np.unique(labels)) < probs.shape[1]:
        return None
    probs = probs.astype(np.float64)
    probs /= probs.sum(1, keepdims=True)
    with warnings.catch_warnings():
        # That a class has few people is told elsewhere.
        warnings.simplefilter("ignore", UserWarning)
        return find_label_issues(labels, probs, filter_by="prune_by_noise_rate", n_jobs=1)


def _known_age(group: int) -> str:
    """The age that a correction gives to who is known by the group alone; of the middle one none is known."""
    return {0: str(AGE_BORDERS[0] - 1), len(AGE_GROUPS) - 1: str(AGE_BORDERS[-1])}.get(int(group), "")


def _ranked(table: pd.DataFrame, fit: Contamination) -> pd.DataFrame:
    table = table.sort_values("margin", kind="stable").reset_index(drop=True)
    table["rank"] = np.arange(1, len(table) + 1)
    fits = table.axis.isin(PROPOSED)
    table["p_wrong"] = np.where(fits, fit.p_wrong(table.margin.to_numpy()), np.nan)
    table["proposed"] = fits & (table.p_wrong > 0.5) & (fit.evidence > SURE)
    return table
