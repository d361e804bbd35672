"""All that a blend fits on out-of-fold predictions, and its score on people that it was not fitted on."""

from dataclasses import dataclass

import numpy as np

from maskfold.data.folds import assign_folds
from maskfold.errors import UserError
from maskfold.inference.decision import DECISIONS, Factors, decide
from maskfold.inference.ensemble_weights import BLENDS
from maskfold.labels import stratum
from maskfold.metrics.bootstrap import Comparison, compare
from maskfold.metrics.calibration import fit_temperature, tempered

# The fitted parts are scored over this many groups of people of their own.
CROSS_FITS = 5
# A decision may lose this much macro F1 at the lower end of its gain's interval.
SMALL_LOSS = 0.005


@dataclass(frozen=True)
class Fitted:
    """temperatures, weights (sum 1): one a member; factors: by axis, or None to take the most probable label."""

    temperatures: list[float]
    weights: list[float]
    factors: Factors | None

    def probs(self, members: np.ndarray) -> np.ndarray:
        """float [M, N, 18] -> the weighted mean of the tempered, float64 [N, 18]."""
        parts = zip(self.weights, members, self.temperatures, strict=True)
        tempered_parts = (weight * tempered(member, temperature) for weight, member, temperature in parts)
        return sum(tempered_parts, start=np.zeros(()))

    def pred_labels(self, members: np.ndarray) -> np.ndarray:
        """int [N]."""
        return decide(self.probs(members), self.factors)


def fit(members: np.ndarray, labels: np.ndarray, people: np.ndarray, blend: str, decision: str) -> Fitted:
    """Each member's temperature, then weights of the calibrated, then factors of their mean.

    members: float [M, N, 18] out-of-fold probabilities; labels, people: [N].
    """
    temperatures = [fit_temperature(member, labels) for member in members]
    calibrated = np.stack([tempered(*pair) for pair in zip(members, temperatures, strict=True)])
    weights = BLENDS[blend](calibrated, labels, people)
    together = np.tensordot(weights, calibrated, 1)
    factors = DECISIONS[decision](together, labels, people)
    return Fitted([float(t) for t in temperatures], weights.tolist(), factors)


@dataclass(frozen=True)
class CrossFitted:
    """What a blend says of people it was not fitted on: the mean's probs [N, 18], and the decision's answers [N].

    calibrated: the members' own [M, N, 18]; weights: [N, M], those that each photo was weighted with.
    """

    probs: np.ndarray
    pred_labels: np.ndarray
    calibrated: np.ndarray
    weights: np.ndarray


def cross_fit(members: np.ndarray, labels: np.ndarray, people: np.ndarray, blend: str, decision: str) -> CrossFitted:
    """Each group of people by what the other groups' people gave: temperatures, weights and factors alike."""
    probs, answers = np.empty(members.shape[1:]), np.empty(len(labels), int)
    calibrated, weights = np.empty(members.shape), np.empty((len(labels), len(members)))
    group_of_photo = own_folds(labels, people)
    for group in np.unique(group_of_photo):
        mine = group_of_photo == group
        fitted = fit(members[:, ~mine], labels[~mine], people[~mine], blend, decision)
        probs[mine] = fitted.probs(members[:, mine])
        answers[mine] = decide(probs[mine], fitted.factors)
        calibrated[:, mine] = [tempered(*pair) for pair in zip(members[:, mine], fitted.temperatures, strict=True)]
        weights[mine] = fitted.weights
    return CrossFitted(probs, answers, calibrated, weights)


def own_folds(labels: np.ndarray, people: np.ndarray) -> np.ndarray:
    """A group of people for each photo, int [N], drawn as folds are. Raises UserError for fewer than two people."""
    names, first, of_photo = np.unique(people, return_index=True, return_inverse=True)
    if len(names) < 2:
        raise UserError(
            "only one person has out-of-fold predictions: nothing can be fitted on others; train more folds"
        )
    return assign_folds(stratum(labels[first]), min(CROSS_FITS, len(names)), seed=0)[of_photo]


def decision_gain(found: CrossFitted, labels: np.ndarray, people: np.ndarray) -> Comparison:
    """Macro F1 of the cross-fitted decision less that of the most probable label, with its paired interval."""
    return compare(labels, found.pred_labels, found.probs.argmax(1), people)


def is_worth_it(gain: Comparison) -> bool:
    return gain.ci95[0] > -SMALL_LOSS and gain.difference > 0
