import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation import coverage, metric_coverage, simulate, strata_sizes
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from maskfold.labels import stratum
from maskfold.metrics.bootstrap import Resampling, _proportional, class_intervals, new_set_means, score_intervals
from maskfold.metrics.scores import METRICS, class_table, macro_f1, scores

labels_18 = st.lists(st.tuples(st.integers(0, 17), st.integers(0, 17)), min_size=1, max_size=60)


@given(labels_18)
def test_macro_f1_equals_the_organisers(pairs):
    labels, pred_labels = np.array(pairs).T
    expected = f1_score(labels, pred_labels, labels=range(18), average="macro", zero_division=0)
    assert macro_f1(labels, pred_labels) == pytest.approx(expected)


def test_macro_f1_by_hand():
    """Class 0: precision 1/2, recall 1; class 1: precision 1, recall 1/2; the 16 absent classes score 0."""
    assert macro_f1([0, 1, 1], [0, 0, 1]) == pytest.approx((2 / 3 + 2 / 3) / 18)


def test_scores_by_axis_by_hand():
    # 0 worn male young; 3 worn female young; 17 bare female old.
    values = scores(np.array([0, 3, 17]), np.array([3, 3, 14]))
    assert values["accuracy"] == pytest.approx(1 / 3)
    assert values["gender_accuracy"] == pytest.approx(1 / 3)
    assert values["mask_accuracy"] == 1
    assert values["age_accuracy"] == 1
    assert values["accuracy"] == accuracy_score([0, 3, 17], [3, 3, 14])


def test_intervals_equal_a_plain_loop():
    """A loop over the same resamples with scikit-learn's metric gives the same percentiles."""
    labels, pred_labels, people = simulate(60, np.random.default_rng(0))
    bounds = score_intervals(labels, pred_labels, people, 0, Resampling(4, 60))
    rng = np.random.default_rng(4)
    bins = stratum(labels[np.unique(people, return_index=True)[1]])
    samples = [
        (np.flatnonzero(bins == b), rng.integers(np.sum(bins == b), size=(60, np.sum(bins == b))))
        for b in np.unique(bins)
    ]
    values = []
    for n in range(60):
        chosen = np.concatenate([group[picks[n]] for group, picks in samples])
        rows = np.concatenate([np.flatnonzero(people == who) for who in chosen])
        values.append(f1_score(labels[rows], pred_labels[rows], labels=range(18), average="macro", zero_division=0))
    assert bounds["macro_f1_ci95"] == pytest.approx(np.percentile(values, (2.5, 97.5)).tolist())
    assert bounds["board95"] is None
    assert bounds["board_half95"] is None


def test_intervals_are_seeded_and_ordered():
    labels, pred_labels, people = simulate(150, np.random.default_rng(1))
    bounds = score_intervals(labels, pred_labels, people, 100)
    assert bounds == score_intervals(labels, pred_labels, people, 100)
    assert bounds != score_intervals(labels, pred_labels, people, 100, Resampling(seed=1))
    widths = [bounds[name][1] - bounds[name][0] for name in ("macro_f1_ci95", "board95", "board_half95")]
    # A new, smaller set varies more than the score of the larger one.
    assert widths == sorted(widths)


def test_intervals_do_not_depend_on_the_order_of_photos():
    labels, pred_labels, people = simulate(80, np.random.default_rng(2))
    order = np.random.default_rng(0).permutation(len(labels))
    names = np.array([f"p{n:03d}" for n in people])
    assert score_intervals(labels, pred_labels, names, 40) == score_intervals(
        labels[order], pred_labels[order], names[order], 40
    )


@given(st.lists(st.integers(1, 500), min_size=1, max_size=6), st.integers(1, 2000))
def test_shares_are_proportional_whole_numbers(sizes, n):
    shares = _proportional(sizes, n)
    assert shares.sum() == n
    assert (np.abs(shares - np.array(sizes) * n / sum(sizes)) < 1).all()


def test_the_simulation_has_the_real_strata():
    assert strata_sizes(2700) == [549, 410, 83, 732, 817, 109]
    assert sum(strata_sizes(601)) == 601


def test_means_of_new_sets_vary_by_both_samples_of_people():
    """The variance of a mean over people is s^2 (1/n + 1/m): the n people and the m new people are both samples."""
    rng, num_people, new_people = np.random.default_rng(0), 300, 150
    people, labels = np.repeat(np.arange(num_people), 2), np.zeros(2 * num_people, int)
    of_person = rng.normal(5, 2, num_people)
    means = new_set_means(of_person[people], labels, people, new_people, Resampling(count=4000))
    assert means.mean() == pytest.approx(of_person.mean(), abs=0.02)
    assert means.std() == pytest.approx(of_person.std() * (1 / num_people + 1 / new_people) ** 0.5, rel=0.05)
    assert (
        new_set_means(np.full(len(people), 0.25), labels, people, new_people, Resampling(count=5)).tolist()
        == [0.25] * 5
    )


@pytest.mark.slow
def test_coverage_of_the_intervals():
    """600 people, 300 times: the interval contains the true score, board95 a new set's score, in 90 to 98 %."""
    shares = coverage(lambda labels, pred_labels, people: score_intervals(labels, pred_labels, people, 200))
    print(shares)
    assert 0.90 <= shares["ci"] <= 0.98
    assert 0.90 <= shares["board"] <= 0.98


@pytest.mark.slow
def test_resampling_photos_covers_too_little():
    """With photos as people the intervals are too narrow, since the errors on a person's photos are correlated."""
    shares = coverage(
        lambda labels, pred_labels, _: score_intervals(
            labels, pred_labels, np.arange(len(labels)), 1400, Resampling(count=300)
        ),
        rounds=150,
    )
    print(shares)
    assert shares["ci"] < 0.85
    assert shares["board"] < 0.90


@given(labels_18)
def test_axis_f1_equals_scikit_learn(pairs):
    labels, pred_labels = np.array(pairs).T
    values = scores(labels, pred_labels)
    for axis, decode_axis, classes in (
        ("mask", lambda x: x // 6, 3),
        ("gender", lambda x: x // 3 % 2, 2),
        ("age", lambda x: x % 3, 3),
    ):
        expected = f1_score(
            decode_axis(labels), decode_axis(pred_labels), labels=range(classes), average="macro", zero_division=0
        )
        assert values[f"{axis}_f1"] == pytest.approx(expected)


@given(labels_18)
def test_the_class_table_equals_scikit_learn(pairs):
    labels, pred_labels = np.array(pairs).T
    rows = class_table(labels, pred_labels)
    expected = precision_recall_fscore_support(labels, pred_labels, labels=range(18), zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[key] for row in rows] == pytest.approx(list(values))


def test_class_intervals_contain_the_class_scores():
    labels, pred_labels, people = simulate(300, np.random.default_rng(3))
    for row, (low, high) in zip(
        class_table(labels, pred_labels), class_intervals(labels, pred_labels, people), strict=True
    ):
        assert low <= row["f1"] <= high
        assert high - low > 0


@pytest.mark.slow
def test_coverage_of_the_intervals_of_all_metrics():
    shares = metric_coverage(lambda labels, pred_labels, people: score_intervals(labels, pred_labels, people, 0))
    print(shares)
    assert set(shares) == set(METRICS)
    assert all(0.90 <= share <= 0.98 for share in shares.values())
