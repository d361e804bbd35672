"""Scores of repeats of one experiment: their mean, their spread over seeds, and an interval over people and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from maskfold.metrics.bootstrap import DEFAULT_RESAMPLING, People, Resampling
from maskfold.metrics.scores import METRICS, metrics_from_tally


@dataclass(frozen=True)
class SeedSpread:
    """One metric of several repeats.

    values: the metric of each repeat. mean: their mean. std: their standard deviation (ddof=1). interval95: the 95 %
    interval [low, high] of the mean over all possible people and seeds.
    """

    values: list[float]
    mean: float
    std: float
    interval95: list[float]


def seed_spread(
    labels, pred_labels: Sequence, people, resampling: Resampling = DEFAULT_RESAMPLING
) -> dict[str, SeedSpread]:
    """The SeedSpread of each of METRICS.

    labels: int [N]; pred_labels: the predicted labels of S >= 2 repeats, int [N] each, for the same photos; people:
    [N], the person of each photo.

    The interval is for the mean over all possible seeds and people. The S seeds and P people are a sample of these.
    People (within their stratum) and seeds are resampled independently, both with replacement. This is the pigeonhole
    bootstrap of Owen (2007, Annals of Applied Statistics 1(2)), which is conservative if seeds and people interact.
    Each resample has only S - 1 seeds. With S seeds, the variance of the mean would be too small by the factor
    (S - 1) / S (Rao & Wu 1988, JASA 83).

    With two or three seeds, percentiles of the resamples are limited by the worst and the best seed. The interval
    is therefore mean -+ t * standard deviation of the resamples, clipped to 0..1. t is the 97.5 % quantile of Student's
    t distribution. Its degrees of freedom combine S - 1 for the seeds and P - 1 for the people, weighted by their
    variances (Satterthwaite 1946).
    """
    resampled_people, rng = People(labels, people), np.random.default_rng(resampling.seed)
    tallies = [resampled_people.tally(labels, repeat) for repeat in pred_labels]
    num_repeats, num_people = len(tallies), len(resampled_people)
    samples = resampled_people.resample(rng, resampling.count)
    picks = rng.integers(num_repeats, size=(resampling.count, num_repeats - 1))
    observed = [metrics_from_tally(counts.sum(0)) for counts in tallies]
    resampled = [metrics_from_tally(resampled_people.totals(counts, samples)) for counts in tallies]
    spreads = {}
    for name in METRICS:
        values = np.array([metrics[name] for metrics in observed])
        by_repeat = np.stack([metrics[name] for metrics in resampled], axis=1)
        std_error = np.take_along_axis(by_repeat, picks, axis=1).mean(1).std(ddof=1)
        variances = np.array([values.var(ddof=1) / num_repeats, by_repeat.mean(1).var(ddof=1)])
        # If there is no variance, the interval is a point for any number of degrees of freedom.
        weight = (variances**2 / [num_repeats - 1, max(num_people - 1, 1)]).sum()
        df = variances.sum() ** 2 / weight if weight else np.inf
        half = float(stdtrit(df, 0.975) * std_error) if weight else 0.0
        mean = float(values.mean())
        bounds = [max(mean - half, 0.0), min(mean + half, 1.0)]
        spreads[name] = SeedSpread(values.tolist(), mean, float(values.std(ddof=1)), bounds)
    return spreads
