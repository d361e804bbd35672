"""Mean, spread and interval of the scores of repeats."""

import numpy as np
import pytest
from scipy.stats import norm, t
from simulation import simulate
from sklearn.metrics import f1_score

from maskfold.labels import stratum
from maskfold.metrics.bootstrap import Resampling, score_intervals
from maskfold.metrics.scores import macro_f1
from maskfold.metrics.seed_spread import seed_spread


def _repeats(num_people: int, num_repeats: int, rng: np.random.Generator):
    """(labels, predicted labels of each repeat, people): repeats differ in half of the people."""
    labels, first, people = simulate(num_people, rng)
    repeats = []
    for _ in range(num_repeats):
        differs = rng.random(num_people) < 0.5
        repeats.append(np.where(differs[people], simulate(num_people, rng)[1], first))
    return labels, repeats, people


def test_the_interval_equals_a_plain_loop():
    """Three repeats, 40 resamples of the same people and seeds, scored with scikit-learn's metric."""
    labels, repeats, people = _repeats(50, 3, np.random.default_rng(0))
    spread = seed_spread(labels, repeats, people, Resampling(4, 40))["macro_f1"]

    def score(rows, repeat):
        pred_labels = repeats[repeat][rows]
        return f1_score(labels[rows], pred_labels, labels=range(18), average="macro", zero_division=0)

    rng = np.random.default_rng(4)
    bins = stratum(labels[np.unique(people, return_index=True)[1]])
    groups = [np.flatnonzero(bins == b) for b in np.unique(bins)]
    samples = [(group, rng.integers(len(group), size=(40, len(group)))) for group in groups]
    seeds = rng.integers(3, size=(40, 2))
    both_levels, people_only = [], []
    for n in range(40):
        chosen = np.concatenate([group[picks[n]] for group, picks in samples])
        rows = np.concatenate([np.flatnonzero(people == who) for who in chosen])
        both_levels.append((score(rows, seeds[n, 0]) + score(rows, seeds[n, 1])) / 2)
        people_only.append((score(rows, 0) + score(rows, 1) + score(rows, 2)) / 3)
    values = [score(np.arange(len(labels)), repeat) for repeat in range(3)]
    mean = sum(values) / 3
    std = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    of_seeds, of_people = std**2 / 3, np.var(people_only, ddof=1)
    df = (of_seeds + of_people) ** 2 / (of_seeds**2 / 2 + of_people**2 / 49)
    half = t.ppf(0.975, df) * np.std(both_levels, ddof=1)
    assert spread.values == pytest.approx(values)
    assert (spread.mean, spread.std) == pytest.approx((mean, std))
    assert spread.interval95 == pytest.approx([mean - half, mean + half])


def test_equal_repeats_have_the_interval_of_the_people():
    """Without a spread over seeds the interval is nearly that of a single run."""
    labels, pred_labels, people = simulate(200, np.random.default_rng(1))
    spread = seed_spread(labels, [pred_labels] * 3, people)["macro_f1"]
    assert spread.mean == pytest.approx(macro_f1(labels, pred_labels))
    assert spread.std == pytest.approx(0, abs=1e-12)
    alone = score_intervals(labels, pred_labels, people, 0)["macro_f1_ci95"]
    width = spread.interval95[1] - spread.interval95[0]
    assert width == pytest.approx(alone[1] - alone[0], rel=0.1)


def test_the_interval_without_any_variance_is_a_point():
    labels, _, people = simulate(50, np.random.default_rng(2))
    spread = seed_spread(labels, [labels, labels], people)["accuracy"]
    assert (spread.mean, spread.std, spread.interval95) == (1, 0, [1, 1])


def test_a_spread_over_seeds_widens_the_interval_most_with_two_seeds():
    """One seed is worse on every fifth person; the t quantile of one degree of freedom is wide."""
    labels, pred_labels, people = simulate(200, np.random.default_rng(3))
    worse = np.where(people % 5 == 0, (labels + 1) % 18, pred_labels)
    widths = [
        np.diff(seed_spread(labels, repeats, people)["macro_f1"].interval95)[0]
        for repeats in ([pred_labels] * 3, [pred_labels, worse] * 3, [pred_labels, worse])
    ]
    assert widths == sorted(widths)


@pytest.mark.slow
@pytest.mark.parametrize(("num_repeats", "spread"), [(2, 0.01), (3, 0.03), (5, 0.03)])
def test_the_interval_contains_the_mean_over_seeds_and_people(num_repeats, spread):
    """A repeat is wrong on a share of the people that varies with its seed, normally distributed around 0.2."""

    def scored(rng: np.random.Generator, share: float, labels, pred_labels, people) -> np.ndarray:
        is_wrong = rng.random(people[-1] + 1) < share
        return np.where(is_wrong[people], (labels + 1) % 18, pred_labels)

    rng, population = np.random.default_rng(0), []
    for share in norm.ppf(np.linspace(0.025, 0.975, 20), 0.2, spread):
        samples = [simulate(600, rng) for _ in range(20)]
        pred_labels = [scored(rng, share, *sample) for sample in samples]
        population.append(macro_f1(np.concatenate([sample[0] for sample in samples]), np.concatenate(pred_labels)))
    truth, contained = np.mean(population), []
    for _ in range(200):
        labels, pred_labels, people = simulate(300, rng)
        repeats = [scored(rng, rng.normal(0.2, spread), labels, pred_labels, people) for _ in range(num_repeats)]
        low, high = seed_spread(labels, repeats, people, Resampling(0, 300))["macro_f1"].interval95
        contained.append(low <= truth <= high)
    print(f"{num_repeats} seeds, standard deviation of the share {spread}: coverage {np.mean(contained):.3f}")
    # The standard error of a coverage of 95 % is 1.5 % here.
    assert 0.91 <= np.mean(contained) <= 0.995
