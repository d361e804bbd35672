import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation import coverage, metric_coverage, planted_difference, simulate, simulate_pair, strata_sizes
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from maskfold.labels import stratum
from maskfold.metrics.bootstrap import Comparison, _proportional, class_intervals, compare, intervals
from maskfold.metrics.scores import METRICS, class_table, macro_f1, scores

labels_18 = st.lists(st.tuples(st.integers(0, 17), st.integers(0, 17)), min_size=1, max_size=60)


@given(labels_18)
def test_macro_f1_is_the_organisers(pairs):
    labels, answers = np.array(pairs).T
    expected = f1_score(labels, answers, labels=range(18), average="macro", zero_division=0)
    assert macro_f1(labels, answers) == pytest.approx(expected)


def test_macro_f1_by_hand():
    """Class 0: precision 1/2, recall 1; class 1: precision 1, recall 1/2; sixteen classes absent and 0."""
    assert macro_f1([0, 1, 1], [0, 0, 1]) == pytest.approx((2 / 3 + 2 / 3) / 18)


def test_scores_by_axis_by_hand():
    # 0 worn male young; 3 worn female young; 17 bare female old.
    found = scores(np.array([0, 3, 17]), np.array([3, 3, 14]))
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["gender_accuracy"] == pytest.approx(1 / 3)
    assert found["mask_accuracy"] == 1
    assert found["age_accuracy"] == 1
    assert found["accuracy"] == accuracy_score([0, 3, 17], [3, 3, 14])


def test_intervals_by_the_plain_way():
    """A loop over resamples with sklearn's metric, on the same draws, gives the same percentiles."""
    labels, answers, people = simulate(60, np.random.default_rng(0))
    found = intervals(labels, answers, people, 0, seed=4, resamples=60)
    rng = np.random.default_rng(4)
    bins = stratum(labels[np.unique(people, return_index=True)[1]])
    drawn = [
        (np.flatnonzero(bins == b), rng.integers(np.sum(bins == b), size=(60, np.sum(bins == b))))
        for b in np.unique(bins)
    ]
    values = []
    for n in range(60):
        chosen = np.concatenate([group[picks[n]] for group, picks in drawn])
        rows = np.concatenate([np.flatnonzero(people == who) for who in chosen])
        values.append(f1_score(labels[rows], answers[rows], labels=range(18), average="macro", zero_division=0))
    assert found["macro_f1_ci95"] == pytest.approx(np.percentile(values, (2.5, 97.5)).tolist())
    assert found["board95"] is None
    assert found["board_half95"] is None


def test_intervals_are_seeded_and_ordered():
    labels, answers, people = simulate(150, np.random.default_rng(1))
    found = intervals(labels, answers, people, 100)
    assert found == intervals(labels, answers, people, 100)
    assert found != intervals(labels, answers, people, 100, seed=1)
    widths = [found[name][1] - found[name][0] for name in ("macro_f1_ci95", "board95", "board_half95")]
    # A new, smaller set varies more than the score of the larger one.
    assert widths == sorted(widths)


def test_intervals_do_not_depend_on_the_photos_order():
    labels, answers, people = simulate(80, np.random.default_rng(2))
    order = np.random.default_rng(0).permutation(len(labels))
    names = np.array([f"p{n:03d}" for n in people])
    assert intervals(labels, answers, names, 40) == intervals(labels[order], answers[order], names[order], 40)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=6), st.integers(1, 2000))
def test_shares_are_proportional_and_whole(sizes, n):
    shares = _proportional(sizes, n)
    assert shares.sum() == n
    assert (np.abs(shares - np.array(sizes) * n / sum(sizes)) < 1).all()


def test_the_simulation_has_the_real_mix():
    assert strata_sizes(2700) == [549, 410, 83, 732, 817, 109]
    assert sum(strata_sizes(601)) == 601


@pytest.mark.slow
def test_the_intervals_cover_what_they_promise():
    """600 simulated people, 300 times: the interval holds the known score, board95 a new set's, in 90 to 98 % of them."""
    found = coverage(lambda labels, answers, people: intervals(labels, answers, people, 200))
    print(found)
    assert 0.90 <= found["ci"] <= 0.98
    assert 0.90 <= found["board"] <= 0.98


@pytest.mark.slow
def test_resampling_photos_would_not():
    """Photos taken for people: the intervals are too narrow, since a person's photos err together."""
    found = coverage(
        lambda labels, answers, _: intervals(labels, answers, np.arange(len(labels)), 1400, resamples=300), rounds=150
    )
    print(found)
    assert found["ci"] < 0.85
    assert found["board"] < 0.90


@given(labels_18)
def test_axis_f1_is_sklearns(pairs):
    labels, answers = np.array(pairs).T
    found = scores(labels, answers)
    for axis, of, classes in (
        ("mask", lambda x: x // 6, 3),
        ("gender", lambda x: x // 3 % 2, 2),
        ("age", lambda x: x % 3, 3),
    ):
        expected = f1_score(of(labels), of(answers), labels=range(classes), average="macro", zero_division=0)
        assert found[f"{axis}_f1"] == pytest.approx(expected)


@given(labels_18)
def test_the_class_table_is_sklearns(pairs):
    labels, answers = np.array(pairs).T
    rows = class_table(labels, answers)
    expected = precision_recall_fscore_support(labels, answers, labels=range(18), zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[key] for row in rows] == pytest.approx(list(values))


def test_class_intervals_hold_the_class_scores():
    labels, answers, people = simulate(300, np.random.default_rng(3))
    for row, (low, high) in zip(class_table(labels, answers), class_intervals(labels, answers, people), strict=True):
        assert low <= row["f1"] <= high
        assert high - low > 0


def test_a_comparison_by_the_plain_way():
    """The same draws, one loop: both sets of answers for the same people."""
    labels, first, second, people = simulate_pair(60, np.random.default_rng(0), 0.1)
    found = compare(labels, first, second, people, seed=4, resamples=40)
    rng, who = np.random.default_rng(4), np.unique(people, return_index=True)[1]
    bins = stratum(labels[who])
    drawn = [
        (np.flatnonzero(bins == b), rng.integers(np.sum(bins == b), size=(40, np.sum(bins == b))))
        for b in np.unique(bins)
    ]
    values = []
    for n in range(40):
        chosen = np.concatenate([group[picks[n]] for group, picks in drawn])
        rows = np.concatenate([np.flatnonzero(people == one) for one in chosen])
        values.append(macro_f1(labels[rows], first[rows]) - macro_f1(labels[rows], second[rows]))
    half = 1.959964 * np.std(values, ddof=1)
    assert found.ci95 == pytest.approx([found.difference - half, found.difference + half])
    assert found.difference == pytest.approx(macro_f1(labels, first) - macro_f1(labels, second))
    assert found.error == pytest.approx(np.std(values, ddof=1))


def test_equal_answers_do_not_differ():
    labels, answers, people = simulate(60, np.random.default_rng(0))
    found = compare(labels, answers, answers, people)
    assert (found.difference, found.ci95, found.seen, found.people_needed) == (0, [0, 0], False, None)


def test_people_needed_by_hand():
    """At 2.8 standard errors a difference is seen four times in five; of half that, four times the people show it."""
    assert Comparison(0.014, [0.0, 0.1], 0.01, 100).people_needed == pytest.approx(400, abs=2)


@pytest.mark.slow
def test_the_intervals_of_all_metrics_cover():
    found = metric_coverage(lambda labels, answers, people: intervals(labels, answers, people, 0))
    print(found)
    assert set(found) == set(METRICS)
    assert all(0.90 <= share <= 0.98 for share in found.values())


@pytest.mark.slow
def test_a_comparison_finds_what_is_there_and_nothing_else():
    """At 2,700 people: a planted difference of .02 in at least 80 % of simulations, a planted zero in at most 7 %."""
    spoiled = 0.0192
    planted = planted_difference(spoiled)
    assert planted == pytest.approx(0.02, abs=0.0015)
    seen = {share: [] for share in (0.0, spoiled)}
    for share, found in seen.items():
        for n in range(300):
            labels, first, second, people = simulate_pair(2700, np.random.default_rng([5, n]), share)
            found.append(compare(labels, first, second, people, resamples=1000).seen)
    power, alarms = np.mean(seen[spoiled]), np.mean(seen[0.0])
    print(f"planted {planted:.4f}: seen in {power:.1%}; planted 0: seen in {alarms:.1%}")
    assert power >= 0.80
    assert alarms <= 0.07
