"""Fit the parameters of a blend on out-of-fold predictions, and predict people who were not used for the fit."""

from dataclasses import dataclass

import numpy as np

from maskfold.data.folds import assign_folds
from maskfold.errors import UserError
from maskfold.inference.decision import DECISIONS, Factors, decide
from maskfold.inference.ensemble_weights import BLENDS
from maskfold.labels import stratum
from maskfold.metrics.calibration import apply_temperature, fit_temperature
from maskfold.metrics.paired_comparison import Comparison, compare

# People are divided into this many groups; each group is scored with parameters that were fitted on the other groups.
NUM_GROUPS = 5
# A decision is used only if the lower bound of its gain in macro F1 is above -TOLERATED_LOSS.
TOLERATED_LOSS = 0.005


@dataclass(frozen=True)
class BlendParams:
    """The parameters of a blend.

    temperatures, weights (sum 1): one per member. factors: see decision.py; None to predict the most probable label.
    """

    temperatures: list[float]
    weights: list[float]
    factors: Factors | None

    def probs(self, members: np.ndarray) -> np.ndarray:
        """Return the weighted mean of the members' calibrated probabilities, float64 [N, 18]; members: [M, N, 18]."""
        parts = zip(self.weights, members, self.temperatures, strict=True)
        weighted = (weight * apply_temperature(member, temperature) for weight, member, temperature in parts)
        return sum(weighted, start=np.zeros(()))

    def predict(self, members: np.ndarray) -> np.ndarray:
        """Return the predicted labels, int [N]; members: float [M, N, 18]."""
        return decide(self.probs(members), self.factors)


def fit(members: np.ndarray, labels: np.ndarray, people: np.ndarray, blend: str, decision: str) -> BlendParams:
    """Fit each member's temperature, then the weights of the calibrated members, then the factors for the blend.

    members: float [M, N, 18] out-of-fold probabilities; labels, people: [N]; blend: a key of BLENDS; decision: a key of
    DECISIONS.
    """
    temperatures = [fit_temperature(member, labels) for member in members]
    calibrated = np.stack([apply_temperature(*pair) for pair in zip(members, temperatures, strict=True)])
    weights = BLENDS[blend](calibrated, labels, people)
    blended = np.tensordot(weights, calibrated, 1)
    factors = DECISIONS[decision](blended, labels, people)
    return BlendParams([float(t) for t in temperatures], weights.tolist(), factors)


@dataclass(frozen=True)
class CrossFitted:
    """A blend's predictions of people who were not used to fit its parameters.

    probs: float64 [N, 18]; pred_labels: int [N], after the decision; calibrated: float [M, N, 18], the members'
    calibrated probabilities; weights: float [N, M], the members' weights for each photo.
    """

    probs: np.ndarray
    pred_labels: np.ndarray
    calibrated: np.ndarray
    weights: np.ndarray


def cross_fit(members: np.ndarray, labels: np.ndarray, people: np.ndarray, blend: str, decision: str) -> CrossFitted:
    """Predict each group of people with the parameters that `fit` finds on the other groups."""
    probs, pred_labels = np.empty(members.shape[1:]), np.empty(len(labels), int)
    calibrated, weights = np.empty(members.shape), np.empty((len(labels), len(members)))
    group_by_photo = assign_groups(labels, people)
    for group in np.unique(group_by_photo):
        in_group = group_by_photo == group
        params = fit(members[:, ~in_group], labels[~in_group], people[~in_group], blend, decision)
        probs[in_group] = params.probs(members[:, in_group])
        pred_labels[in_group] = decide(probs[in_group], params.factors)
        pairs = zip(members[:, in_group], params.temperatures, strict=True)
        calibrated[:, in_group] = [apply_temperature(*pair) for pair in pairs]
        weights[in_group] = params.weights
    return CrossFitted(probs, pred_labels, calibrated, weights)


def assign_groups(labels: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Assign people to groups, stratified like the folds, and return the group of each photo's person, int [N].

    Raises UserError if there is only one person.
    """
    names, first, person_index = np.unique(people, return_index=True, return_inverse=True)
    if len(names) < 2:
        raise UserError("only one person has out-of-fold predictions, so no blend can be scored; train more folds")
    return assign_folds(stratum(labels[first]), min(NUM_GROUPS, len(names)), seed=0)[person_index]


def decision_gain(crossed: CrossFitted, labels: np.ndarray, people: np.ndarray) -> Comparison:
    """Macro F1 of the cross-fitted decision minus that of the most probable label, with its paired 95 % interval."""
    return compare(labels, crossed.pred_labels, crossed.probs.argmax(1), people)


def accepts_decision(gain: Comparison) -> bool:
    """Whether a decision raises macro F1 on average and is unlikely to lose more than TOLERATED_LOSS."""
    return gain.ci95[0] > -TOLERATED_LOSS and gain.difference > 0
