"""The share of wrong labels on one axis: binary regression on contaminated labels, fitted by maximum likelihood."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from maskfold.metrics.calibration import MIN_PROB

# Critical value (5 %) of the likelihood-ratio test of rate = 0, at the boundary of its range (Self & Liang 1987).
MIN_EVIDENCE = 2.706
# The slope is within this factor of that of two normal distributions with the sizes of the margins. If it could be much
# smaller, the fit would explain confident predictions against a label by uncertainty of the model instead of by label
# errors. On correct labels the factor was 0.25 to 1.8.
MAX_SLOPE_FACTOR = 4.0
MAX_RATE = 0.5
# Slopes per pass of the search, and passes: each one searches between the neighbours of the last one's best slope.
NUM_SLOPES, NUM_PASSES = 40, 3
# Bisections of the rate; its error is then below 1e-8.
NUM_BISECTIONS = 26


@dataclass(frozen=True)
class Contamination:
    """A fitted model of the label errors on one axis.

    slope: factor that calibrates the margins, an inverse temperature; rate: estimated share of wrong labels, 0 to 0.5;
    evidence: likelihood-ratio statistic against a rate of 0, >= 0. doubt: a clause that says why wrong labels cannot be
    distinguished from errors of the models, empty if they can; with a doubt, slope and rate are NaN, evidence is 0.
    """

    slope: float
    rate: float
    evidence: float
    doubt: str = ""

    def p_wrong(self, margins: np.ndarray) -> np.ndarray:
        """Probability that each label is wrong, float [P], NaN if in doubt; margins: float [P], as fitted."""
        return expit(logit(self.rate) - self.slope * margins)


def fit_contamination(margins: np.ndarray, doubt: str = "") -> Contamination:
    """Binary regression on contaminated labels (Copas 1988), by maximum likelihood.

    margins: float [P], out-of-fold log-odds of the label against the most probable other class. The calibrated models
    give the labelled class the probability sigmoid(slope * margin) of being the true class. A share `rate` of the true
    labels is then flipped to the other class. Errors of the models become rare as the absolute margin grows, label
    errors do not; this separates the two, unless the models are undecided about many people. doubt: the reason why
    they are undecided; with a doubt, nothing is fitted.

    The range of the slope follows from the absolute margins, so it depends neither on the labels nor on the unit of the
    margins, which over- and underconfident models change. For a fixed slope the log-likelihood is concave in the rate,
    so bisection finds the rate. The slope is searched on a grid, since the likelihood may have several maxima in it.
    """
    if doubt or not len(margins):
        return Contamination(np.nan, np.nan, 0.0, doubt or "there are no people to judge")
    slope, rate, log_likelihood = _search(margins, with_errors=True)
    _, _, without_errors = _search(margins, with_errors=False)
    return Contamination(slope, rate, max(0.0, 2 * (log_likelihood - without_errors)))


def normal_slope(margins: np.ndarray) -> float:
    """The slope of two normal distributions: 2 x mean / variance of the absolute margins; margins: float [P]."""
    sizes = np.abs(margins)
    mean = max(float(sizes.mean()), MIN_PROB)
    # Equal margins have no variance, and any large slope fits them.
    return 2 * mean / max(float(sizes.var()), (mean / 100) ** 2)


def _search(margins: np.ndarray, with_errors: bool) -> tuple[float, float, float]:
    """(slope, rate, log-likelihood) of the most likely model, with a rate of 0 if without errors."""
    slope = normal_slope(margins)
    low, high = slope / MAX_SLOPE_FACTOR, slope * MAX_SLOPE_FACTOR
    for _ in range(NUM_PASSES):
        slopes = np.geomspace(low, high, NUM_SLOPES)
        p_label = expit(slopes[:, None] * margins)
        rates = _best_rates(p_label) if with_errors else np.zeros(NUM_SLOPES)
        likelihood = p_label + rates[:, None] * (1 - 2 * p_label)
        log_likelihoods = np.log(np.maximum(likelihood, MIN_PROB)).sum(1)
        best = int(log_likelihoods.argmax())
        low, high = slopes[max(best - 1, 0)], slopes[min(best + 1, NUM_SLOPES - 1)]
    return float(slopes[best]), float(rates[best]), float(log_likelihoods[best])


def _best_rates(p_label: np.ndarray) -> np.ndarray:
    """The most likely rate for each slope, float [S]; p_label: float [S, P].

    The derivative of the log-likelihood falls as the rate grows, so bisection finds its zero, or the end of the range.
    """
    low, high = np.zeros(len(p_label)), np.full(len(p_label), MAX_RATE)
    gain = 1 - 2 * p_label
    for _ in range(NUM_BISECTIONS):
        rates = (low + high) / 2
        grows = (gain / np.maximum(p_label + rates[:, None] * gain, MIN_PROB)).sum(1) > 0
        low, high = np.where(grows, rates, low), np.where(grows, high, rates)
    return np.where(high < 1e-6, 0.0, np.minimum(high, MAX_RATE))
