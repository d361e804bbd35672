"""Intervals and comparisons by resampling people: a person's seven photos succeed and fail together."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maskfold.labels import stratum
from maskfold.metrics.scores import COLUMNS, f1_per_class, metrics_of, tally

RESAMPLES = 2000
# Of a normal distribution: 97.5 %, and 80 %, the power that is usually planned for (Cohen 1988).
Z_TWO_SIDED, Z_POWER = 1.959964, 0.841621


class People:
    """The people of some photos, in their gender x age strata, to be resampled within them (Efron & Tibshirani 1993).

    labels: int [N], 0..17; people: [N], whose each photo is.
    """

    def __init__(self, labels, people):
        self.names, first, self.of_photo = np.unique(people, return_index=True, return_inverse=True)
        bins = stratum(np.asarray(labels)[first])
        self.strata = [np.flatnonzero(bins == b) for b in np.unique(bins)]

    def __len__(self) -> int:
        return len(self.names)

    def tally(self, labels, answers) -> np.ndarray:
        """A tally a person, [P, 3, WIDTH]."""
        return tally(labels, answers, self.of_photo, len(self))

    def resample(self, rng: np.random.Generator, resamples: int) -> list[np.ndarray]:
        """By stratum int [resamples, its people]: positions in it, as many as it has, with replacement."""
        return [rng.integers(len(group), size=(resamples, len(group))) for group in self.strata]

    def redraw(self, rng: np.random.Generator, drawn: list[np.ndarray], n: int) -> list[np.ndarray]:
        """From each resample `n` people, in the strata's proportions."""
        sizes = _proportional([len(group) for group in self.strata], n)
        return [
            np.take_along_axis(picks, rng.integers(picks.shape[1], size=(len(picks), size)), 1)
            for picks, size in zip(drawn, sizes, strict=True)
        ]

    def totals(self, tallies: np.ndarray, drawn: list[np.ndarray]) -> np.ndarray:
        """Tallies a person [P, 3, C] -> their sums over each resample [resamples, 3, C]."""
        resamples = len(drawn[0])
        total = np.zeros((resamples, tallies[0].size))
        for group, picks in zip(self.strata, drawn, strict=True):
            flat = picks + len(group) * np.arange(resamples)[:, None]
            times = np.bincount(flat.ravel(), minlength=resamples * len(group)).reshape(resamples, len(group))
            total = total + times @ tallies[group].reshape(len(group), -1)
        return total.reshape(resamples, *tallies.shape[1:])


def bags(people: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """`count` times the rows int [~N] of as many people as there are, chosen with replacement (bagging, Breiman 1996).

    Not within strata: what is fitted on a bag must meet other mixes of people too.
    """
    rng = np.random.default_rng(seed)
    names, of_photo = np.unique(people, return_inverse=True)
    for _ in range(count):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        yield np.repeat(np.arange(len(of_photo)), times[of_photo])


def percentile_interval(values: np.ndarray) -> list[float]:
    """The 95 % interval of resampled values, percentiles 2.5 and 97.5."""
    return [float(value) for value in np.percentile(values, (2.5, 97.5))]


def intervals(
    labels, answers, people, eval_people: int, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, list[float] | None]:
    """95 % intervals [lo, hi], percentiles 2.5 and 97.5, from resampling people within their gender x age stratum.

    labels, answers: int [N]; people: [N], the photos' person; eval_people: people on the eval side, 0 for none.
    <metric>_ci95 of each of METRICS; board95 and board_half95 of macro F1: from each resample as many people drawn as
    the eval side has (or half), in the same proportions: what a new set of that size may score; None without an eval
    side.
    """
    who = People(labels, people)
    tallies, rng = who.tally(labels, answers), np.random.default_rng(seed)
    drawn = who.resample(rng, resamples)
    intervals: dict[str, list[float] | None] = {
        f"{name}_ci95": percentile_interval(values) for name, values in metrics_of(who.totals(tallies, drawn)).items()
    }
    for name, n in (("board95", eval_people), ("board_half95", eval_people // 2)):
        again = who.redraw(rng, drawn, n) if n else None
        intervals[name] = (
            None if again is None else percentile_interval(metrics_of(who.totals(tallies, again))["macro_f1"])
        )
    return intervals


def class_intervals(labels, answers, people, seed: int = 0, resamples: int = RESAMPLES) -> list[list[float]]:
    """95 % interval [lo, hi] of each class' F1, by class."""
    who = People(labels, people)
    drawn = who.resample(np.random.default_rng(seed), resamples)
    values = f1_per_class(who.totals(who.tally(labels, answers)[..., COLUMNS["all"]], drawn))
    return [percentile_interval(column) for column in values.T]


@dataclass(frozen=True)
class Comparison:
    """How two sets of answers to the same photos differ in a metric: first - second, and how sure that is."""

    difference: float
    ci95: list[float]
    error: float
    people: int

    @property
    def seen(self) -> bool:
        return not self.ci95[0] <= 0 <= self.ci95[1]

    @property
    def people_needed(self) -> int | None:
        """People, as many as these counted in, that would show this difference four times in five; None for none."""
        if self.difference == 0:
            return None
        return math.ceil(self.people * ((Z_TWO_SIDED + Z_POWER) * self.error / self.difference) ** 2)


def compare(
    labels, first, second, people, metric: str = "macro_f1", seed: int = 0, resamples: int = RESAMPLES
) -> Comparison:
    """The paired bootstrap: both answer for the same resampled people, so what is hard for both cancels out.

    ci95 is the standard normal interval on the bootstrap's error (Efron & Tibshirani 1993, ch. 13): a difference is
    symmetric enough for it, and in simulations it cried out less often than percentiles, and found more.
    labels: int [N]; people: [N]; first, second: answers int [N], or [S, N] of S repeats whose mean score counts.
    """
    who = People(labels, people)
    drawn = who.resample(np.random.default_rng(seed), resamples)

    def score(answers) -> tuple[float, np.ndarray]:
        tallies = [who.tally(labels, repeat) for repeat in np.atleast_2d(answers)]
        observed = np.mean([metrics_of(tally.sum(0))[metric] for tally in tallies])
        return float(observed), np.mean([metrics_of(who.totals(tally, drawn))[metric] for tally in tallies], axis=0)

    (one, ones), (other, others) = score(first), score(second)
    difference, error = one - other, float((ones - others).std(ddof=1))
    bounds = [difference - Z_TWO_SIDED * error, difference + Z_TWO_SIDED * error]
    return Comparison(difference, bounds, error, len(who))


def _proportional(sizes: list[int], n: int) -> np.ndarray:
    """`n` shared out in proportion to `sizes`, the largest remainders rounded up."""
    exact = np.array(sizes) * n / sum(sizes)
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: n - shares.sum()]] += 1
    return shares
