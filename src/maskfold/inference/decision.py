"""Choose labels for macro F1: multiply probabilities by factors for mask, gender and age; take the largest product.

Choosing the most probable label maximises accuracy. The best decision for F1 predicts rare classes more often (Lipton,
Elkan & Narayanaswamy 2014, Optimal thresholding of classifiers to maximize F1). The factors make this possible; they
are fitted by coordinate ascent on the metric itself (Fan & Lin 2007, A study on threshold selection).
"""

from collections.abc import Callable

import numpy as np

from maskfold.labels import AXES, NUM_CLASSES, joint_log_probs
from maskfold.metrics.bootstrap import bootstrap_rows
from maskfold.metrics.scores import quick_macro_f1

# Each sweep tries to change the logarithm of a factor by each of STEPS. MAX_LOG_FACTOR limits this logarithm.
# PENALTY times the sum of the squared logarithms is subtracted from macro F1. This penalty, and the mean over bootstrap
# samples, shrink the factors towards 1. If all factors are 1, the decision is argmax.
STEPS = (-0.4, -0.2, -0.1, 0.1, 0.2, 0.4)
MAX_LOG_FACTOR, PENALTY = 1.5, 0.01
NUM_FACTOR_BAGS, NUM_SWEEPS = 6, 5
MIN_FACTOR_PROB = 1e-9

Factors = dict[str, list[float]]


def decide(probs: np.ndarray, factors: Factors | None) -> np.ndarray:
    """Return the labels with the largest product of probability and factors, int [N]; probs: [N, 18].

    Without factors, these are the most probable labels.
    """
    if factors is None:
        return probs.argmax(1)
    return (np.log(np.maximum(probs, MIN_FACTOR_PROB)) + _by_class([np.log(factors[axis]) for axis in AXES])).argmax(1)


def fit_factors(probs: np.ndarray, labels: np.ndarray, people: np.ndarray, seed: int = 0) -> Factors:
    """Fit the factors of each axis. The first class of an axis has factor 1, so five factors are free.

    probs: float [N, 18]; labels, people: [N].
    """
    logs = np.log(np.maximum(probs, MIN_FACTOR_PROB)).astype(np.float32)
    bags = [_ascend(logs[rows], labels[rows]) for rows in bootstrap_rows(people, NUM_FACTOR_BAGS, seed)]
    means = [np.mean(axis, axis=0) for axis in zip(*bags, strict=True)]
    return {axis: np.exp(values).tolist() for axis, values in zip(AXES, means, strict=True)}


# Values of --decision: (probabilities float [N, 18], labels [N], people [N]) -> factors, or None for argmax.
DECISIONS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Factors | None]] = {
    "argmax": lambda probs, labels, people: None,
    "macro-f1": fit_factors,
}


def _by_class(axes: list[np.ndarray]) -> np.ndarray:
    """Add up the log factors of the three axes for each class, [18]."""
    return joint_log_probs(*(np.asarray(values)[None] for values in axes))[0]


def _ascend(logs: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Fit the log factors of each axis by coordinate ascent on the penalised macro F1, in at most NUM_SWEEPS sweeps."""
    num_true = np.bincount(labels, minlength=NUM_CLASSES)
    log_factors = [np.zeros(len(names)) for names in AXES.values()]

    def objective() -> float:
        pred_labels = (logs + _by_class(log_factors).astype(np.float32)).argmax(1)
        score = quick_macro_f1(pred_labels, labels, num_true)
        return score - PENALTY * sum(float((axis**2).sum()) for axis in log_factors)

    best = objective()
    for _ in range(NUM_SWEEPS):
        before = best
        for axis in log_factors:
            for index in range(1, len(axis)):
                best_factor = start = axis[index]
                for step in STEPS:
                    axis[index] = np.clip(start + step, -MAX_LOG_FACTOR, MAX_LOG_FACTOR)
                    if (value := objective()) > best:
                        best, best_factor = value, axis[index]
                axis[index] = best_factor
        if best == before:
            break
    return log_factors
