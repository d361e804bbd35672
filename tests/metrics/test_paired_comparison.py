import numpy as np
import pytest
from simulation import simulate, simulate_pair, true_difference

from maskfold.labels import stratum
from maskfold.metrics.bootstrap import Resampling
from maskfold.metrics.paired_comparison import Comparison, compare, compare_by_metric
from maskfold.metrics.scores import macro_f1, scores


def test_a_comparison_equals_a_plain_loop():
    """A loop over the same resamples, scoring both predictions on the same people."""
    labels, first, second, people = simulate_pair(60, np.random.default_rng(0), 0.1)
    comparison = compare(labels, first, second, people, Resampling(4, 40))
    rng, who = np.random.default_rng(4), np.unique(people, return_index=True)[1]
    bins = stratum(labels[who])
    samples = [
        (np.flatnonzero(bins == b), rng.integers(np.sum(bins == b), size=(40, np.sum(bins == b))))
        for b in np.unique(bins)
    ]
    values = []
    for n in range(40):
        chosen = np.concatenate([group[picks[n]] for group, picks in samples])
        rows = np.concatenate([np.flatnonzero(people == one) for one in chosen])
        values.append(macro_f1(labels[rows], first[rows]) - macro_f1(labels[rows], second[rows]))
    half = 1.959964 * np.std(values, ddof=1)
    assert comparison.ci95 == pytest.approx([comparison.difference - half, comparison.difference + half])
    assert comparison.difference == pytest.approx(macro_f1(labels, first) - macro_f1(labels, second))
    assert comparison.std_error == pytest.approx(np.std(values, ddof=1))


def test_metrics_are_compared_on_the_same_people():
    labels, first, second, people = simulate_pair(60, np.random.default_rng(0), 0.1)
    comparisons = compare_by_metric(labels, first, second, people)
    assert comparisons["macro_f1"] == compare(labels, first, second, people)
    one, other = scores(labels, first), scores(labels, second)
    for name, comparison in comparisons.items():
        assert comparison.difference == pytest.approx(one[name] - other[name])


def test_equal_predictions_do_not_differ():
    labels, pred_labels, people = simulate(60, np.random.default_rng(0))
    comparison = compare(labels, pred_labels, pred_labels, people)
    assert (comparison.difference, comparison.ci95, comparison.significant, comparison.people_needed) == (
        0,
        [0, 0],
        False,
        None,
    )


def test_people_needed_by_hand():
    """A difference of 2.8 standard errors has a power of 80 %; half of it needs four times the people."""
    assert Comparison(0.014, [0.0, 0.1], 0.01, 100).people_needed == pytest.approx(400, abs=2)


@pytest.mark.long
def test_power_and_false_positives_of_a_comparison():
    """2,700 people: a true difference of 0.02 is significant in at least 80 % of simulations, one of 0 in at most 7 %."""
    worse = 0.0192
    difference = true_difference(worse)
    assert difference == pytest.approx(0.02, abs=0.0015)
    significant = {share: [] for share in (0.0, worse)}
    for share, results in significant.items():
        for n in range(300):
            labels, first, second, people = simulate_pair(2700, np.random.default_rng([5, n]), share)
            results.append(compare(labels, first, second, people, Resampling(count=1000)).significant)
    power, false_positives = np.mean(significant[worse]), np.mean(significant[0.0])
    print(f"true difference {difference:.4f}: significant in {power:.1%}; of 0: in {false_positives:.1%}")
    assert power >= 0.80
    assert false_positives <= 0.07
