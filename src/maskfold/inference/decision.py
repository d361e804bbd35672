"""Probabilities -> labels for macro F1: a factor for each class of each axis before the largest is taken.

The most probable label maximises accuracy. For an F1 the best decision moves the border between classes towards the
frequent one (Lipton, Elkan & Narayanaswamy 2014, Optimal thresholding of classifiers to maximize F1), by as much as is
best on data: here by coordinate ascent on the metric itself (Fan & Lin 2007, A study on threshold selection).
"""

from collections.abc import Callable

import numpy as np

from maskfold.labels import AXES, NUM_CLASSES, joint_log_probs
from maskfold.metrics.bootstrap import bags
from maskfold.metrics.scores import quick_macro_f1

# Of a factor's logarithm: what one step tries, how far it may go, and what its square costs in macro F1. The cost keeps
# factors at 1 unless they are worth it; with the mean over resampled people it shrinks them towards argmax.
STEPS = (-0.4, -0.2, -0.1, 0.1, 0.2, 0.4)
FARTHEST, COST = 1.5, 0.01
BAGS, SWEEPS = 6, 5
LEAST = 1e-9

Factors = dict[str, list[float]]


def decide(probs: np.ndarray, factors: Factors | None) -> np.ndarray:
    """Probabilities [N, 18] -> labels int [N]: the largest after multiplying by the factors; the largest without."""
    if factors is None:
        return probs.argmax(1)
    return (np.log(np.maximum(probs, LEAST)) + _by_class([np.log(factors[axis]) for axis in AXES])).argmax(1)


def fit_factors(probs: np.ndarray, labels: np.ndarray, people: np.ndarray, seed: int = 0) -> Factors:
    """Factors by axis, whose first class has 1: five are free. probs: float [N, 18]; labels, people: [N]."""
    logs = np.log(np.maximum(probs, LEAST)).astype(np.float32)
    found = [_ascend(logs[rows], labels[rows]) for rows in bags(people, BAGS, seed)]
    means = [np.mean(axis, axis=0) for axis in zip(*found, strict=True)]
    return {axis: np.exp(values).tolist() for axis, values in zip(AXES, means, strict=True)}


# What --decision names: float [N, 18] probabilities, labels, people [N] -> factors, None for the most probable label.
DECISIONS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Factors | None]] = {
    "argmax": lambda probs, labels, people: None,
    "macro-f1": fit_factors,
}


def _by_class(axes: list[np.ndarray]) -> np.ndarray:
    """Logarithms by axis -> [18]."""
    return joint_log_probs(*(np.asarray(values)[None] for values in axes))[0]


def _ascend(logs: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Coordinate by coordinate, the step that makes macro F1 less the cost largest, until none does."""
    truths = np.bincount(labels, minlength=NUM_CLASSES)
    factors = [np.zeros(len(names)) for names in AXES.values()]

    def value() -> float:
        found = quick_macro_f1((logs + _by_class(factors).astype(np.float32)).argmax(1), labels, truths)
        return found - COST * sum(float((axis**2).sum()) for axis in factors)

    best = value()
    for _ in range(SWEEPS):
        before = best
        for axis in factors:
            for at in range(1, len(axis)):
                kept = start = axis[at]
                for step in STEPS:
                    axis[at] = np.clip(start + step, -FARTHEST, FARTHEST)
                    if (now := value()) > best:
                        best, kept = now, axis[at]
                axis[at] = kept
        if best == before:
            break
    return factors
