"""Estimate the share of wrong labels on one axis of the label (mask, gender or age).

The method is binary regression on contaminated labels, by maximum likelihood.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from maskfold.metrics.calibration import MIN_PROB

# Critical value of the likelihood-ratio test of rate = 0 at the 5 % level. It is lower than that of the chi-squared
# distribution with one degree of freedom, because a rate of 0 is at the boundary of its range (Self & Liang 1987).
MIN_EVIDENCE = 2.706
# The fitted slope differs from normal_slope() by at most this factor. With a much smaller slope, a confident prediction
# that contradicts a label would be explained by uncertainty of the models, not by a label error. On correct labels, the
# fitted slope was 0.25 to 1.8 times normal_slope().
MAX_SLOPE_FACTOR = 4.0
MAX_RATE = 0.5
# Number of slopes that a pass of the search compares, and number of passes. Each pass after the first one searches
# between the two neighbours of the best slope so far.
NUM_SLOPES, NUM_PASSES = 40, 3
# Number of bisections of the rate. Its error is then below 1e-8.
NUM_BISECTIONS = 26


@dataclass(frozen=True)
class Contamination:
    """A fitted model of the label errors on one axis.

    slope: factor that calibrates the margins, an inverse temperature; rate: estimated share of wrong labels, 0 to 0.5;
    evidence: likelihood-ratio statistic against a rate of 0, >= 0. unfitted_reason: empty after a fit; otherwise a
    clause that says why wrong labels cannot be distinguished from errors of the models. Without a fit, slope and rate
    are NaN, and evidence is 0.
    """

    slope: float
    rate: float
    evidence: float
    unfitted_reason: str = ""

    def p_wrong(self, margins: np.ndarray) -> np.ndarray:
        """Probability that each label is wrong, float [P]; NaN without a fit. margins: see fit_contamination()."""
        return expit(logit(self.rate) - self.slope * margins)


def fit_contamination(margins: np.ndarray, unfitted_reason: str = "") -> Contamination:
    """Fit a binary regression on contaminated labels (Copas 1988) by maximum likelihood.

    margins: float [P], out-of-fold log-odds of the label against the most probable other class. unfitted_reason: a
    clause that says why the models do not separate the classes; if it is not empty, nothing is fitted.

    The fit makes two assumptions. Judged by the photos alone, the labelled class is the true class with probability
    sigmoid(slope * margin). A share `rate` of the true labels was changed to the other class. Errors of the models
    become rarer as the absolute margin grows, but label errors do not. This difference separates the two kinds of
    error, unless the models are undecided about many people.

    The range of the slope is computed from the absolute margins. It therefore does not depend on the labels, and it
    adapts to the scale of the margins, which is larger for overconfident models. For a fixed slope, the log-likelihood
    is concave in the rate, so bisection finds the best rate. The slope is searched on a grid, because there may be
    several maxima.
    """
    if unfitted_reason or not len(margins):
        return Contamination(np.nan, np.nan, 0.0, unfitted_reason or "there are no people to judge")
    slope, rate, log_likelihood = _search(margins, with_label_errors=True)
    _, _, without_label_errors = _search(margins, with_label_errors=False)
    return Contamination(slope, rate, max(0.0, 2 * (log_likelihood - without_label_errors)))


def normal_slope(margins: np.ndarray) -> float:
    """Return the slope that calibrates margins from two normal distributions with the means +m and -m.

    It is 2 x mean / variance of the absolute margins. margins: float [P].
    """
    absolute = np.abs(margins)
    mean = max(float(absolute.mean()), MIN_PROB)
    # If all absolute margins are equal, their variance is 0, and any large slope fits them.
    return 2 * mean / max(float(absolute.var()), (mean / 100) ** 2)


def _search(margins: np.ndarray, with_label_errors: bool) -> tuple[float, float, float]:
    """Return (slope, rate, log-likelihood) of the most likely model; without label errors the rate is 0."""
    slope = normal_slope(margins)
    low, high = slope / MAX_SLOPE_FACTOR, slope * MAX_SLOPE_FACTOR
    for _ in range(NUM_PASSES):
        slopes = np.geomspace(low, high, NUM_SLOPES)
        p_label = expit(slopes[:, None] * margins)
        rates = _best_rates(p_label) if with_label_errors else np.zeros(NUM_SLOPES)
        likelihood = p_label + rates[:, None] * (1 - 2 * p_label)
        log_likelihoods = np.log(np.maximum(likelihood, MIN_PROB)).sum(1)
        best = int(log_likelihoods.argmax())
        low, high = slopes[max(best - 1, 0)], slopes[min(best + 1, NUM_SLOPES - 1)]
    return float(slopes[best]), float(rates[best]), float(log_likelihoods[best])


def _best_rates(p_label: np.ndarray) -> np.ndarray:
    """Return the most likely rate for each slope, float [S].

    p_label: float [S, P], the sigmoid of slope * margin for each slope and person. The derivative of the log-likelihood
    falls as the rate grows, so bisection finds its zero or an end of the range.
    """
    low, high = np.zeros(len(p_label)), np.full(len(p_label), MAX_RATE)
    gain = 1 - 2 * p_label
    for _ in range(NUM_BISECTIONS):
        rates = (low + high) / 2
        is_rising = (gain / np.maximum(p_label + rates[:, None] * gain, MIN_PROB)).sum(1) > 0
        low, high = np.where(is_rising, rates, low), np.where(is_rising, high, rates)
    return np.where(high < 1e-6, 0.0, np.minimum(high, MAX_RATE))
