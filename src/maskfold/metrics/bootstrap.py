"""Bootstrap intervals of scores.

People are resampled, not photos, because the errors on a person's seven photos are correlated.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maskfold.labels import stratum
from maskfold.metrics.scores import TALLY_COLUMNS, f1_per_class, metrics_from_tally, tally

RESAMPLES = 2000
# The 97.5 % quantile of the standard normal distribution.
Z_TWO_SIDED = 1.959964


@dataclass(frozen=True)
class Resampling:
    """The seed for resampling people, and the number of resamples."""

    seed: int = 0
    count: int = RESAMPLES


DEFAULT_RESAMPLING = Resampling()


class People:
    """The P people in a set of N photos, for resampling within gender x age strata (Efron & Tibshirani 1993).

    labels: int [N], 0..17; people: [N], the person of each photo. Attributes: names: [P], the people;
    person_index: int [N], the index in `names` of each photo's person; strata: for each stratum, the indices of its
    people in `names`.
    """

    def __init__(self, labels, people):
        self.names, first, self.person_index = np.unique(people, return_index=True, return_inverse=True)
        bins = stratum(np.asarray(labels)[first])
        self.strata = [np.flatnonzero(bins == b) for b in np.unique(bins)]

    def __len__(self) -> int:
        return len(self.names)

    def tally(self, labels, pred_labels) -> np.ndarray:
        """One tally per person, float [P, 3, TALLY_WIDTH]."""
        return tally(labels, pred_labels, self.person_index, len(self))

    def resample(self, rng: np.random.Generator, count: int) -> list[np.ndarray]:
        """Sample people with replacement, `count` times.

        Returns one array per stratum: the sampled positions within the stratum, int [count, size of the stratum].
        """
        return [rng.integers(len(group), size=(count, len(group))) for group in self.strata]

    def resample_to_size(self, rng: np.random.Generator, samples: list[np.ndarray], size: int) -> list[np.ndarray]:
        """Sample `size` people with replacement from each resample; the strata keep their proportions."""
        sizes = _proportional([len(group) for group in self.strata], size)
        return [
            np.take_along_axis(picks, rng.integers(picks.shape[1], size=(len(picks), stratum_size)), 1)
            for picks, stratum_size in zip(samples, sizes, strict=True)
        ]

    def totals(self, tallies: np.ndarray, samples: list[np.ndarray]) -> np.ndarray:
        """Tallies of the people [P, 3, C] -> sums over the people of each resample, float [resamples, 3, C]."""
        resamples = len(samples[0])
        total = np.zeros((resamples, tallies[0].size))
        for group, picks in zip(self.strata, samples, strict=True):
            flat = picks + len(group) * np.arange(resamples)[:, None]
            times = np.bincount(flat.ravel(), minlength=resamples * len(group)).reshape(resamples, len(group))
            total = total + times @ tallies[group].reshape(len(group), -1)
        return total.reshape(resamples, *tallies.shape[1:])


def bootstrap_rows(people: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield `count` bootstrap samples of the people, each as the row numbers of their photos, int [about N].

    The samples are for bagging (Breiman 1996). They are not stratified, because the proportions of the strata should
    vary too. people: [N], the person of each photo.
    """
    rng = np.random.default_rng(seed)
    names, person_index = np.unique(people, return_inverse=True)
    for _ in range(count):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        yield np.repeat(np.arange(len(person_index)), times[person_index])


def percentile_interval(values: np.ndarray) -> list[float]:
    """The 95 % interval [low, high] of resampled values: their 2.5th and 97.5th percentiles."""
    return [float(value) for value in np.percentile(values, (2.5, 97.5))]


def score_intervals(
    labels, pred_labels, people, eval_people: int, resampling: Resampling = DEFAULT_RESAMPLING
) -> dict[str, list[float] | None]:
    """95 % percentile intervals [low, high] from resampling people within their gender x age stratum.

    labels, pred_labels: int [N]; people: [N], the person of each photo; eval_people: the number of people in the eval
    set, 0 without one.
    Returns <metric>_ci95 for each of METRICS, and two intervals for the macro F1 of a new set of people: board95 for as
    many people as the eval set has, and board_half95 for half as many. A new set is sampled from each resample. Each of
    the two intervals is None if its number of people is 0.
    """
    resampled_people = People(labels, people)
    tallies, rng = resampled_people.tally(labels, pred_labels), np.random.default_rng(resampling.seed)
    samples = resampled_people.resample(rng, resampling.count)
    bounds: dict[str, list[float] | None] = {
        f"{name}_ci95": percentile_interval(values)
        for name, values in metrics_from_tally(resampled_people.totals(tallies, samples)).items()
    }
    for name, size in (("board95", eval_people), ("board_half95", eval_people // 2)):
        bounds[name] = None
        if size:
            totals = resampled_people.totals(tallies, resampled_people.resample_to_size(rng, samples, size))
            bounds[name] = percentile_interval(metrics_from_tally(totals)["macro_f1"])
    return bounds


def new_set_scores(
    labels, pred_labels, people, new_people: int, resampling: Resampling = DEFAULT_RESAMPLING
) -> np.ndarray:
    """Macro F1 of new sets of `new_people` people, float [resamples].

    One set is sampled from each resample of the people. Unlike in score_intervals, people are resampled without strata,
    because the class frequencies of new sets vary too. labels, pred_labels: int [N]; people: [N], the person of each
    photo.
    """
    resampled_people = People(labels, people)
    tallies, num_people = resampled_people.tally(labels, pred_labels), len(resampled_people)
    rng, totals = np.random.default_rng(resampling.seed), []
    for _ in range(resampling.count):
        times = rng.multinomial(num_people, np.full(num_people, 1 / num_people))
        times = rng.multinomial(new_people, times / num_people)
        totals.append(times @ tallies.reshape(num_people, -1))
    return metrics_from_tally(np.reshape(totals, (-1, *tallies.shape[1:])))["macro_f1"]


def new_set_means(
    values: np.ndarray, labels, people, new_people: int, resampling: Resampling = DEFAULT_RESAMPLING
) -> np.ndarray:
    """Means of a value of photos over new sets of `new_people` people, float [resamples].

    One set is sampled from each resample of the people; all have the same proportions of gender and age group. values:
    float [N], one per photo; labels: int [N]; people: [N], the person of each photo.
    """
    resampled_people = People(labels, people)
    columns = [np.bincount(resampled_people.person_index, weights) for weights in (values, np.ones(len(values)))]
    rng = np.random.default_rng(resampling.seed)
    samples = resampled_people.resample(rng, resampling.count)
    samples = resampled_people.resample_to_size(rng, samples, new_people)
    sums, num_photos = resampled_people.totals(np.stack(columns, 1)[:, None], samples)[:, 0].T
    return sums / num_photos


def class_intervals(labels, pred_labels, people, resampling: Resampling = DEFAULT_RESAMPLING) -> list[list[float]]:
    """The 95 % interval [low, high] of the F1 of each of the 18 classes."""
    resampled_people = People(labels, people)
    samples = resampled_people.resample(np.random.default_rng(resampling.seed), resampling.count)
    tallies = resampled_people.tally(labels, pred_labels)[..., TALLY_COLUMNS["all"]]
    return [percentile_interval(column) for column in f1_per_class(resampled_people.totals(tallies, samples)).T]


def _proportional(sizes: list[int], total: int) -> np.ndarray:
    """Divide `total` into whole numbers in proportion to `sizes`; those with the largest remainders are rounded up."""
    exact = np.array(sizes) * total / sum(sizes)
    parts = np.floor(exact).astype(int)
    parts[np.argsort(parts - exact, kind="stable")[: total - parts.sum()]] += 1
    return parts
