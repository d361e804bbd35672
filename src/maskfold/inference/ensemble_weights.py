"""Members -> weights, chosen on out-of-fold predictions. Who calls this keeps the people it is scored on out of it."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from maskfold.labels import NUM_CLASSES
from maskfold.metrics.bootstrap import bags
from maskfold.metrics.scores import quick_macro_f1

BAGS, STEPS = 8, 20


def equal_weights(members: np.ndarray, labels: np.ndarray, people: np.ndarray) -> np.ndarray:
    """The mean, or soft vote: nothing is chosen."""
    return np.full(len(members), 1 / len(members))


def greedy_weights(members: np.ndarray, labels: np.ndarray, people: np.ndarray, seed: int = 0) -> np.ndarray:
    """Weights float [M], at least 0, sum 1, for the best macro F1 of the weighted mean.

    Forward selection with replacement (Caruana et al. 2004, Ensemble selection from libraries of models): one member
    at a time is added to the sum, the one that makes it best, and the best of the sums on the way counts. Bagged over
    resampled people, whose weights are averaged; their bags of half the members are for libraries of thousands: of a
    few, chance would decide how often each is in one. members: float [M, N, 18]; labels, people: [N].
    """
    total = np.zeros(len(members))
    for rows in bags(people, BAGS, seed):
        chosen = _select(np.ascontiguousarray(members[:, rows], np.float32), labels[rows])
        np.add.at(total, chosen, 1 / len(chosen))
    return total / total.sum()


def _select(members: np.ndarray, labels: np.ndarray) -> list[int]:
    """Positions of the members added up, one by one, to the sum of the best macro F1."""
    truths, total, chosen, best = np.bincount(labels, minlength=NUM_CLASSES), np.zeros_like(members[0]), [], (-1.0, 0)
    for step in range(STEPS):
        scores = [quick_macro_f1((total + member).argmax(1), labels, truths) for member in members]
        chosen.append(int(np.argmax(scores)))
        total += members[chosen[-1]]
        if max(scores) > best[0]:
            best = max(scores), step + 1
    return chosen[: best[1]]


def log_loss_weights(members: np.ndarray, labels: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Weights float [M], at least 0, sum 1, of the mean with the least log loss: convex, so there is one optimum."""
    true = np.maximum(members[:, np.arange(len(labels)), labels].astype(np.float64), 1e-12)
    found = minimize(
        lambda weights: (-np.log(weights @ true).mean(), -(true / (weights @ true)).mean(1)),
        np.full(len(members), 1 / len(members)),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * len(members),
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"ftol": 1e-10, "maxiter": 500},
    )
    weights = found.x.clip(0)
    return weights / weights.sum()


def hard_vote(members: np.ndarray) -> np.ndarray:
    """The label that most members answer, int [N]; of equally many the one with the larger mean probability."""
    answers = members.argmax(2)
    votes = np.stack([(answers == label).sum(0) for label in range(members.shape[2])], 1)
    return (votes + members.mean(0) / 2).argmax(1)


BLENDS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "mean": equal_weights,
    "oof": greedy_weights,
    "logloss": log_loss_weights,
}
