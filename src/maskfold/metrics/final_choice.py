"""Which submissions to select for the private leaderboard, from their expected and their public scores.

A competition scores half of the eval set on the public leaderboard and, at the end, the other half on the private one,
where the best of the selected submissions counts. The scores of submissions 1..n are modelled as

    T ~ N(mu, sqrt(t_i t_j) rho_ij)                  score on all people of the population
    public = T + e, private = T + e'                 e, e' ~ N(0, 2 sqrt(s_i s_j) rho_ij), independent of each other

mu: expected score; t: variance of its error; s: variance from sampling the people of the whole eval set (half as many
people give 2 s); rho: correlation between submissions. t and s follow from the variances of the score's two intervals:
v = t + s on the whole eval set, and h = t + 2 s on half of it. The joint normal distribution is conditioned on the
recorded public scores (Bishop 2006, Pattern Recognition and Machine Learning, section 2.3.1), and the private scores
are sampled from the result.

rho is estimated from the share d of the photos on which the labels of two submissions differ. Let a photo have the
value 1 if its label is correct, else 0. If both submissions have the accuracy a, their values have the variance
a (1 - a), and the difference of their values has the variance 2 a (1 - a) (1 - rho). This difference is 0 where the
labels are equal and at most 1 elsewhere, so its variance is at most d, and rho is at least 1 - d / (2 a (1 - a)). This
bound is used as rho. It is too low if the submissions make different errors on the same photos. Then the
probabilities of being the best are too close to each other, and the expected maximum is a little too high.

Assumptions:
- Each mu is used as it is. The highest of many expected scores is probably too high by chance, but it is not shrunk
  towards their mean.
- Macro F1 is used in place of the accuracy a.
- rho, which is estimated from single photos, is also the correlation between two submissions in T, in e and in e'.
- The public leaderboard scores half of the eval set.
"""

from dataclasses import dataclass

import numpy as np

from maskfold.metrics.bootstrap import Z_TWO_SIDED

NUM_DRAWS = 20_000
# If at most this number of submissions is to be selected, all possible selections are compared.
MAX_EXHAUSTIVE = 2
# The accuracy in the bound on rho is clipped to this range, because the bound divides by a (1 - a).
ACCURACY_RANGE = (0.05, 0.95)
# Leaderboards show four digits. The variance of this rounding also keeps the covariance matrix of the public scores
# invertible if two submissions are equal.
ROUNDING_VARIANCE = 1e-4**2 / 12
# Two scores are equal if their difference is smaller than this. Equal submissions have equal scores, but their sampled
# scores differ by rounding errors.
MAX_TIE_DIFFERENCE = 1e-6


@dataclass(frozen=True)
class KnownScores:
    """What is known of the scores of n submissions.

    expected: float [n], the expected scores. interval95, half95: float [n, 2], their 95 % intervals [low, high] on the
    whole eval set and on half of it. public: float [n], the scores of the public leaderboard, NaN where there is none.
    """

    expected: np.ndarray
    interval95: np.ndarray
    half95: np.ndarray
    public: np.ndarray


@dataclass(frozen=True)
class FinalChoice:
    """What to expect of n submissions on the private leaderboard, and which of them to select.

    expected: float [n], the expected private scores given the known public scores; interval95: float [n, 2], their 95 %
    intervals. best_probs: float [n], the probability that a submission is the best of all, sum 1. selected: the indices
    of the selected submissions; expected_best: the expected private score of the best of these.
    """

    expected: np.ndarray
    interval95: np.ndarray
    best_probs: np.ndarray
    selected: list[int]
    expected_best: float


def choose_final(known: KnownScores, labels: np.ndarray, count: int, seed: int = 0) -> FinalChoice:
    """Choose the submissions that have the largest expected maximum on the private leaderboard.

    labels: int [n, N], the predicted labels of the eval photos; count: the number of submissions to select, at least 1.
    If there are fewer submissions, all are selected. A single submission or a pair is chosen from all possible ones;
    further submissions are added one by one.
    """
    mean, covariance = private_scores(known, label_correlation(labels, known.expected))
    draws = draw_scores(mean, covariance, seed)
    half = Z_TWO_SIDED * np.sqrt(np.diag(covariance))
    # Sorted by expected score, because select_best takes the first of equally good selections.
    order = np.argsort(-mean, kind="stable")
    selected, expected_best = select_best(draws[:, order], count)
    return FinalChoice(
        mean,
        np.clip(np.stack([mean - half, mean + half], axis=1), 0, 1),
        best_probabilities(draws),
        order[selected].tolist(),
        expected_best,
    )


def variance_parts(known: KnownScores) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances (t, s) that the module docstring defines, float [n] each.

    t = 2 v - h and s = h - v, where v and h are the variances of the two intervals. Negative values become 0.
    """
    v, h = (_variance(known.expected, bounds) for bounds in (known.interval95, known.half95))
    return np.maximum(2 * v - h, 0), np.maximum(h - v, 0)


def _variance(expected: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return the variance of each score, float [n], from its interval, if its errors are normally distributed.

    An end may have been clipped to 0 or 1, so the longer side of each interval is used.
    """
    return (np.maximum(expected - bounds[:, 0], bounds[:, 1] - expected) / Z_TWO_SIDED) ** 2


def label_correlation(labels: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The correlation of the scores, float [n, n], 0..1, from the share of labels that differ.

    labels: int [n, N]; expected: float [n]. The mean of two expected scores is used as the accuracy a of both
    submissions. Returns a correlation matrix near the bound 1 - d / (2 a (1 - a)), which is clipped to 0..1.
    """
    differing = np.array([(labels != row).mean(1) for row in labels])
    accuracy = np.clip((expected[:, None] + expected) / 2, *ACCURACY_RANGE)
    return nearest_correlation(np.clip(1 - differing / (2 * accuracy * (1 - accuracy)), 0, 1))


def nearest_correlation(matrix: np.ndarray) -> np.ndarray:
    """Return a correlation matrix (positive semidefinite, with diagonal 1) that is close to the given matrix.

    matrix: float [n, n], symmetric, with diagonal 1; it may have negative eigenvalues. They become 0; then rows and
    columns are scaled (the spectral method of Rebonato & Jaeckel 1999, The most general methodology to create a valid
    correlation matrix).
    """
    values, vectors = np.linalg.eigh(matrix)
    clipped = (vectors * np.maximum(values, 0)) @ vectors.T
    # Clipping only adds to the diagonal, so it is at least 1.
    scale = np.sqrt(np.diag(clipped))
    correlation = clipped / np.outer(scale, scale)
    np.fill_diagonal(correlation, 1)
    return correlation


def private_scores(known: KnownScores, correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (mean [n], covariance [n, n]) of the private scores, given the public scores that are known.

    correlation: float [n, n].
    """
    estimation, sampling = (np.sqrt(np.outer(part, part)) * correlation for part in variance_parts(known))
    half_sampling = 2 * sampling
    seen = np.flatnonzero(~np.isnan(known.public))
    public = (estimation + half_sampling)[np.ix_(seen, seen)] + ROUNDING_VARIANCE * np.eye(len(seen))
    # Coefficients of the regression of each T (columns) on the observed public scores (rows).
    gain = np.linalg.solve(public, estimation[seen])
    mean = known.expected + (known.public - known.expected)[seen] @ gain
    return mean, estimation - estimation[:, seen] @ gain + half_sampling


def draw_scores(mean: np.ndarray, covariance: np.ndarray, seed: int = 0) -> np.ndarray:
    """NUM_DRAWS samples of a normal distribution, float [draws, n].

    One half of the samples mirrors the other (antithetic sampling), so that the mean of all samples is `mean`.
    """
    values, vectors = np.linalg.eigh(covariance)
    half = np.random.default_rng(seed).standard_normal((NUM_DRAWS // 2, len(mean)))
    deviations = half @ (vectors * np.sqrt(np.maximum(values, 0))).T
    return mean + np.concatenate([deviations, -deviations])


def best_probabilities(draws: np.ndarray) -> np.ndarray:
    """The share of draws in which each submission is the best, float [n]. If k submissions tie, each counts 1 / k.

    draws: float [draws, n].
    """
    is_best = draws >= draws.max(1, keepdims=True) - MAX_TIE_DIFFERENCE
    return (is_best / is_best.sum(1, keepdims=True)).mean(0)


def select_best(draws: np.ndarray, count: int) -> tuple[list[int], float]:
    """Return (indices, expected maximum) of the `count` submissions with the largest expected maximum.

    A single submission or a pair is chosen from all possible ones. For a larger count, the submission that raises the
    expected maximum most is added each time, so the result may not be the best set of its size. Of equally good sets,
    the first is chosen. draws: float [draws, n].
    """
    scores = np.ascontiguousarray(draws.T)
    count = min(count, len(scores))
    selected = [int(scores.mean(1).argmax())]
    if count >= MAX_EXHAUSTIVE:
        maxima = np.stack([np.maximum(scores, row).mean(1) for row in scores])
        maxima[np.tril_indices(len(scores))] = -np.inf
        selected = [int(index) for index in np.unravel_index(maxima.argmax(), maxima.shape)]
    while len(selected) < count:
        gains = np.maximum(scores, scores[selected].max(0)).mean(1)
        gains[selected] = -np.inf
        selected.append(int(gains.argmax()))
    return selected, float(scores[selected].max(0).mean())
