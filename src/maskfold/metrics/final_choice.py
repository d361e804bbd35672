"""Which submissions to select for the private leaderboard, from their expected and their public scores.

A competition scores half of the eval set on the public leaderboard and, at the end, the other half on the private one,
where the best of the selected submissions counts. The scores of submissions 1..n are modelled as

    T ~ N(mu, sqrt(t_i t_j) rho_ij)                  score on all people of the population
    public = T + e, private = T + e'                 e, e' ~ N(0, 2 sqrt(s_i s_j) rho_ij), independent of each other

mu: expected score; t: variance of its error; s: variance from sampling the people of the whole eval set, which half as
many people double. Both follow from the variances of the intervals on the whole eval set, v = t + s, and on half of it,
h = t + 2 s. The recorded public scores are observed: the joint normal distribution is conditioned on them (Bishop 2006,
Pattern Recognition and Machine Learning, section 2.3.1), and the private scores are sampled from the result.

The correlation follows from the labels. Whether a submission is correct on a photo has the variance a (1 - a), where a
is its accuracy, and two submissions can differ in this only on the share d of the photos on which their labels differ.
So rho is at least 1 - d / (2 a (1 - a)). This bound is used. Where two submissions make different errors on the same
photos, it is too low: then the probabilities are closer to each other than they should be, and the expected maximum is
a little too high.

Assumptions: nothing is known of T besides its expected score, so the best of many expected scores is not shrunk; macro
F1 stands in for the accuracy; the correlation over photos is also that over people and of the errors of the expected
scores; the public leaderboard scores half of the eval set.
"""

from dataclasses import dataclass

import numpy as np

from maskfold.metrics.bootstrap import Z_TWO_SIDED

NUM_DRAWS = 20_000
# Up to this number of submissions to select, all sets are compared.
MAX_EXHAUSTIVE = 2
# The accuracy in the bound of the correlation is limited to this range, since no difference fits into a (1 - a) = 0.
ACCURACY_RANGE = (0.05, 0.95)
# Leaderboards show four digits. The variance of rounding also keeps equal submissions from making a matrix singular.
ROUNDING_VARIANCE = 1e-4**2 / 12
# Two scores that differ by less are equal, since the decomposition of a singular matrix has rounding errors.
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

    expected: float [n], the expected private scores after the public ones; interval95: float [n, 2]. best_probs: float
    [n], the probability that a submission is the best of all, sum 1. selected: the indices of the selected submissions;
    expected_best: the expected score of the best of these.
    """

    expected: np.ndarray
    interval95: np.ndarray
    best_probs: np.ndarray
    selected: list[int]
    expected_best: float


def choose_final(known: KnownScores, labels: np.ndarray, count: int, seed: int = 0) -> FinalChoice:
    """Choose the submissions that have the largest expected maximum on the private leaderboard.

    labels: int [n, N], the predicted labels of the eval photos; count: the number of submissions to select, at least 1;
    of fewer submissions, all are selected. Up to two are compared exhaustively; further ones are added one by one.
    """
    mean, covariance = private_scores(known, label_correlation(labels, known.expected))
    draws = draw_scores(mean, covariance, seed)
    half = Z_TWO_SIDED * np.sqrt(np.diag(covariance))
    # Submissions that add equally little to the selected ones are tried in the order of their expected scores.
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
    """Return (t, s), float [n] each: variance of the error of the expected score, and of sampling the eval people.

    s = h - v and t = 2 v - h, at least 0, of the variances v and h of the two intervals.
    """
    v, h = (_variance(known.expected, bounds) for bounds in (known.interval95, known.half95))
    return np.maximum(2 * v - h, 0), np.maximum(h - v, 0)


def _variance(expected: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """The variance of an interval mean -+ z sd. An end may have been moved to 0 or 1, so the longer side counts."""
    return (np.maximum(expected - bounds[:, 0], bounds[:, 1] - expected) / Z_TWO_SIDED) ** 2


def label_correlation(labels: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The correlation of the scores, float [n, n], 0..1, from the share of labels that differ.

    labels: int [n, N]; expected: float [n], whose mean over two submissions stands in for their accuracy. Returns the
    bound 1 - d / (2 a (1 - a)), at least 0, as a correlation matrix.
    """
    differing = np.array([(labels != row).mean(1) for row in labels])
    accuracy = np.clip((expected[:, None] + expected) / 2, *ACCURACY_RANGE)
    return nearest_correlation(np.clip(1 - differing / (2 * accuracy * (1 - accuracy)), 0, 1))


def nearest_correlation(matrix: np.ndarray) -> np.ndarray:
    """A positive semidefinite matrix with diagonal 1 near a symmetric one with diagonal 1, float [n, n].

    Negative eigenvalues become 0; then rows and columns are scaled (the spectral method of Rebonato & Jaeckel 1999, The
    most general methodology to create a valid correlation matrix).
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
    # Rows: the observed public scores. Columns: what they say of each T.
    gain = np.linalg.solve(public, estimation[seen])
    mean = known.expected + (known.public - known.expected)[seen] @ gain
    return mean, estimation - estimation[:, seen] @ gain + half_sampling


def draw_scores(mean: np.ndarray, covariance: np.ndarray, seed: int = 0) -> np.ndarray:
    """NUM_DRAWS samples of a normal distribution, float [draws, n]; half mirror the others, so `mean` is theirs."""
    values, vectors = np.linalg.eigh(covariance)
    half = np.random.default_rng(seed).standard_normal((NUM_DRAWS // 2, len(mean)))
    deviations = half @ (vectors * np.sqrt(np.maximum(values, 0))).T
    return mean + np.concatenate([deviations, -deviations])


def best_probabilities(draws: np.ndarray) -> np.ndarray:
    """The share of draws in which each submission is the best, float [n]; k that tie get 1 / k each.

    draws: float [draws, n].
    """
    is_best = draws >= draws.max(1, keepdims=True) - MAX_TIE_DIFFERENCE
    return (is_best / is_best.sum(1, keepdims=True)).mean(0)


def select_best(draws: np.ndarray, count: int) -> tuple[list[int], float]:
    """Return (indices, expected maximum) of the `count` submissions with the largest expected maximum.

    All pairs are compared. From the third on, the submission that adds most to those before it is added: the set may
    then not be the best of its size. draws: float [draws, n]. Of equal ones the first counts.
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
