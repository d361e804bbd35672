"""Paired comparisons of two sets of predictions for the same photos, by resampling people (see bootstrap.py)."""

import math
from dataclasses import dataclass

import numpy as np

from maskfold.metrics.bootstrap import DEFAULT_RESAMPLING, Z_TWO_SIDED, People, Resampling
from maskfold.metrics.scores import METRICS, metrics_from_tally

# The 80 % quantile of the standard normal distribution; 80 % is the usual power of a planned study (Cohen 1988).
Z_POWER = 0.841621


@dataclass(frozen=True)
class Comparison:
    """The difference in a metric between two sets of predicted labels for the same photos.

    difference: first - second; ci95: its 95 % interval [low, high]; std_error: its standard error over resampled
    people; num_people: the number of people that were compared.
    """

    difference: float
    ci95: list[float]
    std_error: float
    num_people: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return not self.ci95[0] <= 0 <= self.ci95[1]

    @property
    def people_needed(self) -> int | None:
        """The number of people needed to detect a difference of this size with a power of 80 %.

        The number includes the people of this comparison. It is None for a difference of 0.
        """
        if self.difference == 0:
            return None
        return math.ceil(self.num_people * ((Z_TWO_SIDED + Z_POWER) * self.std_error / self.difference) ** 2)


def compare(labels, first, second, people, resampling: Resampling = DEFAULT_RESAMPLING) -> Comparison:
    """The Comparison of macro F1; see compare_by_metric."""
    return compare_by_metric(labels, first, second, people, resampling)["macro_f1"]


def compare_by_metric(
    labels, first, second, people, resampling: Resampling = DEFAULT_RESAMPLING
) -> dict[str, Comparison]:
    """Compare two sets of predicted labels by the paired bootstrap. Returns a Comparison for each of METRICS.

    Both sets are scored on the same resampled people, so that the difficulty of a sample cancels out. ci95 is the
    standard normal interval with the bootstrap standard error (Efron & Tibshirani 1993, ch. 13), because the
    distribution of a difference is nearly symmetric. In simulations, this interval had fewer false positives and more
    power than the percentile interval.
    labels: int [N]; people: [N], the person of each photo; first, second: predicted labels, int [N], or int [S, N] for
    S repeats, whose scores are averaged.
    """
    resampled_people = People(labels, people)
    samples = resampled_people.resample(np.random.default_rng(resampling.seed), resampling.count)

    def metrics(pred_labels) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The observed and the resampled metrics, each averaged over the repeats."""
        tallies = [resampled_people.tally(labels, repeat) for repeat in np.atleast_2d(pred_labels)]
        observed = [metrics_from_tally(counts.sum(0)) for counts in tallies]
        resampled = [metrics_from_tally(resampled_people.totals(counts, samples)) for counts in tallies]
        return _means(observed), _means(resampled)

    (first_score, first_samples), (second_score, second_samples) = metrics(first), metrics(second)
    comparisons = {}
    for name in METRICS:
        difference = float(first_score[name] - second_score[name])
        std_error = float((first_samples[name] - second_samples[name]).std(ddof=1))
        bounds = [difference - Z_TWO_SIDED * std_error, difference + Z_TWO_SIDED * std_error]
        comparisons[name] = Comparison(difference, bounds, std_error, len(resampled_people))
    return comparisons


def _means(repeats: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.mean([metrics[name] for metrics in repeats], axis=0) for name in METRICS}
