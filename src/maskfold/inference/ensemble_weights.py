"""Weights of the members of an ensemble, fitted on out-of-fold predictions.

The caller must leave out the people on which the weights will be scored.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from maskfold.labels import NUM_CLASSES
from maskfold.metrics.bootstrap import bootstrap_rows
from maskfold.metrics.scores import quick_macro_f1
from maskfold.progress import report

NUM_WEIGHT_BAGS, NUM_STEPS = 8, 20


def equal_weights(members: np.ndarray, labels: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Equal weights, which give a soft vote; nothing is fitted."""
    return np.full(len(members), 1 / len(members))


def greedy_weights(members: np.ndarray, labels: np.ndarray, people: np.ndarray, seed: int = 0) -> np.ndarray:
    """Weights float [M], at least 0, sum 1, that give the weighted mean a high macro F1.

    Forward selection with replacement (Caruana et al. 2004, Ensemble selection from libraries of models): each step
    adds the member that gives the best sum, and the best of all sums is kept. Each bag is a resample of the people, and
    the weights are averaged over the bags. In the paper, a bag is a random half of thousands of models. With only a
    few members, chance would put some of them into more of these bags than others. members: float [M, N, 18]; labels,
    people: [N].
    """
    total = np.zeros(len(members))
    for rows in bootstrap_rows(people, NUM_WEIGHT_BAGS, seed):
        chosen = _select(np.ascontiguousarray(members[:, rows], np.float32), labels[rows])
        np.add.at(total, chosen, 1 / len(chosen))
    return total / total.sum()


def _select(members: np.ndarray, labels: np.ndarray) -> list[int]:
    """Return the indices of the members whose sum has the best macro F1, in the order of selection, with duplicates."""
    num_true, total = np.bincount(labels, minlength=NUM_CLASSES), np.zeros_like(members[0])
    chosen: list[int] = []
    best = (-1.0, 0)
    for step in range(NUM_STEPS):
        scores = [quick_macro_f1((total + member).argmax(1), labels, num_true) for member in members]
        chosen.append(int(np.argmax(scores)))
        total += members[chosen[-1]]
        if max(scores) > best[0]:
            best = max(scores), step + 1
    return chosen[: best[1]]


def log_loss_weights(members: np.ndarray, labels: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Weights float [M], at least 0, sum 1, with the lowest log loss of the weighted mean; the loss is convex in them.

    Returns equal weights and prints a warning if the search does not converge.
    """
    true = np.maximum(members[:, np.arange(len(labels)), labels].astype(np.float64), 1e-12)
    result = minimize(
        lambda weights: (-np.log(weights @ true).mean(), -(true / (weights @ true)).mean(1)),
        np.full(len(members), 1 / len(members)),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * len(members),
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"ftol": 1e-10, "maxiter": 500},
    )
    if not result.success:
        report(f"warning: the search for weights did not converge ({result.message}); the members get equal weights")
        return equal_weights(members, labels, people)
    weights = result.x.clip(0)
    return weights / weights.sum()


def hard_vote(members: np.ndarray) -> np.ndarray:
    """The label that most members predict, int [N]; a tie goes to the label with the largest mean probability."""
    pred_labels = members.argmax(2)
    votes = np.stack([(pred_labels == label).sum(0) for label in range(members.shape[2])], 1)
    return (votes + members.mean(0) / 2).argmax(1)


# Values of --blend: (probabilities float [M, N, 18], labels [N], people [N]) -> weights float [M].
BLENDS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "mean": equal_weights,
    "oof": greedy_weights,
    "logloss": log_loss_weights,
}
