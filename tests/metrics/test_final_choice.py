"""The choice of the final submissions: conditioning on public scores, correlations, probabilities, selection."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import norm

from maskfold.metrics.bootstrap import Z_TWO_SIDED
from maskfold.metrics.final_choice import (
    ROUNDING_VARIANCE,
    FinalChoice,
    KnownScores,
    best_probabilities,
    choose_final,
    label_correlation,
    nearest_correlation,
    private_scores,
    select_best,
    variance_parts,
)


def known_scores(expected, estimation, sampling, public=None) -> KnownScores:
    """The scores of submissions with the given variances of estimation (t) and sampling (s); numbers hold for all."""
    expected = np.array(expected, float)
    t, s = (np.broadcast_to(variance, expected.shape) for variance in (estimation, sampling))
    public = np.full(len(expected), np.nan) if public is None else np.array(public, float)
    halves = [Z_TWO_SIDED * np.sqrt(variance) for variance in (t + s, t + 2 * s)]
    bounds = [np.stack([expected - half, expected + half], axis=1) for half in halves]
    return KnownScores(expected, *bounds, public)


def labels_of(num_photos: int, *changed: float) -> np.ndarray:
    """Labels int [n, N]: the first submission predicts 0, each other one 1 on the given share of the photos."""
    labels = np.zeros((len(changed) + 1, num_photos), int)
    for row, share in zip(labels[1:], changed, strict=True):
        row[: round(share * num_photos)] = 1
    return labels


def test_the_variances_follow_from_the_two_intervals():
    known = known_scores([0.5, 0.6], [4e-4, 0], [9e-4, 1e-4])
    t, s = variance_parts(known)
    assert t == pytest.approx([4e-4, 0], abs=1e-12)
    assert s == pytest.approx([9e-4, 1e-4])
    # An end that was moved to 1 does not make the interval narrower.
    clipped = KnownScores(known.expected, np.minimum(known.interval95, 0.51), known.half95, known.public)
    assert variance_parts(clipped)[0][0] == pytest.approx(4e-4)
    # Intervals that contradict the model give no negative variance.
    for wide, narrow in ((known.half95, known.interval95), (known.interval95, 2 * known.half95 - 0.5)):
        assert min(map(np.min, variance_parts(KnownScores(known.expected, wide, narrow, known.public)))) >= 0


def test_the_correlation_by_hand():
    """Means 0.5 and 0.4 of two expected scores give 2 a (1 - a) = 0.5 and 0.48."""
    correlation = label_correlation(labels_of(100, 0.2, 0.24), np.array([0.5, 0.5, 0.3]))
    assert correlation[0] == pytest.approx([1, 1 - 0.2 / 0.5, 1 - 0.24 / 0.48])
    assert correlation[1, 2] == pytest.approx(1 - 0.04 / 0.48)
    assert label_correlation(labels_of(10, 0.9), np.array([0.5, 0.5])).tolist() == [[1, 0], [0, 1]]
    assert np.isfinite(label_correlation(labels_of(10, 0.9), np.array([1.0, 1.0]))).all()


def test_the_nearest_correlation_is_one():
    """The matrix says that the first and the third of three submissions equal the second and not each other."""
    repaired = nearest_correlation(np.array([[1, 0.9, 0], [0.9, 1, 0.9], [0, 0.9, 1]]))
    assert np.linalg.eigvalsh(repaired).min() > -1e-12
    assert np.diag(repaired).tolist() == [1, 1, 1]
    assert repaired == pytest.approx(repaired.T)
    assert 0 < repaired[0, 2] < repaired[0, 1] < 0.9
    valid = np.array([[1, 0.3], [0.3, 1]])
    assert nearest_correlation(valid) == pytest.approx(valid)


def test_one_public_score_by_hand():
    """Two submissions, the first with a public score: formulas of the conditional normal distribution, written out."""
    t1, t2, s1, s2, rho = 4e-4, 9e-4, 2e-4, 3e-4, 0.6
    known = known_scores([0.5, 0.48], [t1, t2], [s1, s2], [0.53, np.nan])
    mean, covariance = private_scores(known, np.array([[1, rho], [rho, 1]]))
    public = t1 + 2 * s1 + ROUNDING_VARIANCE
    both = rho * (t1 * t2) ** 0.5
    assert mean == pytest.approx([0.5 + 0.03 * t1 / public, 0.48 + 0.03 * both / public])
    assert covariance[0, 0] == pytest.approx(t1 - t1**2 / public + 2 * s1)
    assert covariance[1, 1] == pytest.approx(t2 - both**2 / public + 2 * s2)
    assert covariance[0, 1] == pytest.approx(both - t1 * both / public + 2 * rho * (s1 * s2) ** 0.5)
    assert covariance[1, 0] == pytest.approx(covariance[0, 1])


def test_probabilities_and_the_expected_maximum_of_two_by_hand():
    """The closed forms for the larger of two normally distributed numbers (Clark 1961)."""
    known = known_scores([0.5, 0.48], 4e-4, 2e-4, [np.nan, 0.51])
    labels = labels_of(1000, 0.2)
    mean, covariance = private_scores(known, label_correlation(labels, known.expected))
    spread = (covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]) ** 0.5
    distance = (mean[0] - mean[1]) / spread
    maximum = mean[0] * norm.cdf(distance) + mean[1] * norm.cdf(-distance) + spread * norm.pdf(distance)
    choice = choose_final(known, labels, 2)
    assert choice.best_probs == pytest.approx([norm.cdf(distance), norm.cdf(-distance)], abs=0.01)
    assert choice.expected_best == pytest.approx(maximum, abs=3e-4)
    assert choice.expected == pytest.approx(mean)
    half = Z_TWO_SIDED * np.sqrt(np.diag(covariance))
    assert choice.interval95 == pytest.approx(np.stack([mean - half, mean + half], axis=1))
    # One submission alone has exactly its expected score.
    alone = choose_final(known, labels, 1)
    assert alone.selected == [0]
    assert alone.expected_best == pytest.approx(mean[0])


def test_equal_submissions_share_the_probability():
    """Also if both have public scores, and if these contradict each other."""
    for public in ((np.nan, np.nan), (0.52, np.nan), (0.52, 0.52), (0.52, 0.56)):
        choice = choose_final(known_scores([0.5, 0.5], 4e-4, 2e-4, public), labels_of(100, 0), 2)
        assert choice.best_probs == pytest.approx([0.5, 0.5])
        assert choice.expected[0] == pytest.approx(choice.expected[1])
        assert choice.expected_best == pytest.approx(choice.expected[0])


def test_a_public_score_says_more_of_similar_submissions():
    known = known_scores([0.5, 0.5, 0.5], 4e-4, 2e-4, [0.56, np.nan, np.nan])
    expected = choose_final(known, labels_of(100, 0.05, 0.9), 1).expected
    assert expected[0] > expected[1] > 0.51
    assert expected[2] == pytest.approx(0.5)


def test_different_submissions_are_selected_rather_than_similar_ones():
    """The third is expected to score a little less, but it is good where the first is not."""
    known = known_scores([0.5, 0.499, 0.495], 4e-4, 4e-4)
    labels = labels_of(100, 0.01, 0.8)
    assert choose_final(known, labels, 1).selected == [0]
    assert choose_final(known, labels, 2).selected == [0, 2]
    assert choose_final(known, labels, 3).selected == [0, 2, 1]
    assert choose_final(known, labels, 5).selected == [0, 2, 1]


def test_a_much_better_submission_is_the_best():
    known = known_scores([0.4, 0.6, 0.41], 2e-4, 2e-4)
    choice = choose_final(known, labels_of(100, 0.4, 0.5), 2)
    assert choice.best_probs == pytest.approx([0, 1, 0], abs=1e-3)
    # The other one hardly matters, and the better of the rest is taken.
    assert choice.selected == [1, 2]
    assert choice.expected_best == pytest.approx(0.6, abs=1e-3)


def test_scores_without_any_variance():
    choice = choose_final(known_scores([0.4, 0.5], 0, 0, [0.5, np.nan]), labels_of(10, 0.5), 2)
    assert choice.expected == pytest.approx([0.4, 0.5])
    assert choice.best_probs.tolist() == [0, 1]
    assert choice.expected_best == pytest.approx(0.5)


def test_intervals_end_at_0_and_1():
    bounds = choose_final(known_scores([0.99, 0.01], 4e-3, 4e-3), labels_of(10, 0.5), 1).interval95
    assert (bounds[0, 1], bounds[1, 0]) == (1, 0)


def test_draws_by_hand():
    draws = np.array([[1, 0, 0.5], [0, 1, 0.9], [0, 0, 0.5], [1, 1, 0]])
    assert best_probabilities(draws) == pytest.approx(np.array([1.5, 1.5, 1]) / 4)
    # The mean of the third is smaller than that of each other one.
    assert select_best(draws, 1) == ([0], 0.5)
    assert select_best(draws, 2) == ([0, 2], pytest.approx((1 + 0.9 + 0.5 + 1) / 4))
    assert select_best(draws, 3) == ([0, 2, 1], pytest.approx(3.5 / 4))


submissions = st.lists(
    st.tuples(st.integers(400, 600), st.integers(1, 9), st.integers(1, 9), st.integers(0, 60), st.booleans()),
    min_size=2,
    max_size=6,
    unique_by=lambda submission: submission[0],
)


@given(submissions, st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=40)
def test_the_order_of_the_submissions_does_not_matter(drawn, random, count):
    order = list(range(len(drawn)))
    random.shuffle(order)

    def choice_of(rows: list[int]) -> FinalChoice:
        expected, t, s, changed, recorded = np.array(drawn)[rows].T
        public = np.where(recorded, expected / 1000 + 0.02, np.nan)
        labels = labels_of(100, *changed / 100)[1:]
        return choose_final(known_scores(expected / 1000, t / 1e4, s / 1e4, public), labels, count)

    first, second = choice_of(list(range(len(drawn)))), choice_of(order)
    assert second.expected == pytest.approx(first.expected[order])
    assert second.interval95 == pytest.approx(first.interval95[order])
    # Five standard errors of the samples.
    assert second.best_probs == pytest.approx(first.best_probs[order], abs=0.025)
    assert second.expected_best == pytest.approx(first.expected_best, abs=0.002)
    assert len(second.selected) == len(set(second.selected)) == min(count, len(drawn))
    assert first.best_probs.sum() == pytest.approx(1)


def simulate_competition(
    rng: np.random.Generator, num_submissions: int = 4
) -> tuple[KnownScores, np.ndarray, np.ndarray]:
    """(known scores, labels of the eval photos, private scores) of submissions whose score is the accuracy.

    A photo is difficult because of the person and the photo, for all submissions and for each. The expected score is
    the accuracy on 600 training people, and the 200 eval people are divided into two halves.
    """
    skills = rng.uniform(-0.3, 0.3, num_submissions)

    def correct_photos(people: int) -> np.ndarray:
        sizes = [(people, 1, 1), (people, 7, 1), (people, 1, num_submissions), (people, 7, num_submissions)]
        parts = [std * rng.normal(size=size) for std, size in zip((1, 0.7, 0.6, 0.6), sizes, strict=True)]
        return skills + sum(parts) > 0

    accuracies, correct = correct_photos(600).mean(1), correct_photos(200)
    public, private = correct[:100].mean((0, 1)), correct[100:].mean((0, 1))
    variance = accuracies.var(0, ddof=1)
    public = np.where(rng.random(num_submissions) < 0.6, public, np.nan)
    known = known_scores(accuracies.mean(0), variance / 600, variance / 200, public)
    return known, correct.reshape(-1, num_submissions).T.astype(int), private


def test_probabilities_are_calibrated_in_simulated_competitions():
    """Among submissions that are the best with a probability of about p, a share of about p is the best."""
    probs, hits, deviations = [], [], []
    for case in range(300):
        known, labels, private = simulate_competition(np.random.default_rng([2, case]))
        choice = choose_final(known, labels, 2)
        is_best = private == private.max()
        probs.append(choice.best_probs)
        hits.append(is_best / is_best.sum())
        deviations.append((private > choice.interval95[:, 0]) & (private < choice.interval95[:, 1]))
    p, hit = np.concatenate(probs), np.concatenate(hits)
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1)):
        inside = (p >= low) & (p <= high)
        std_error = np.sqrt((p * (1 - p))[inside].sum()) / inside.sum()
        assert inside.sum() > 100
        assert hit[inside].mean() == pytest.approx(p[inside].mean(), abs=3 * std_error + 0.02)
    # Four submissions of each competition are scored on the same people.
    assert 0.93 <= np.mean(deviations) <= 0.97
