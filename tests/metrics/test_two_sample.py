"""The classifier two-sample test: silent for photos of one population, whose people have seven similar photos each."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from maskfold.metrics.two_sample import MIN_COMPARED_PEOPLE, auc, compare_samples


def sample(rng, people, similarity=0.9, statistics=6):
    """(statistics [7 * people, S] with variance 1, person of each photo); similarity: correlation within a person."""
    person = np.repeat(np.arange(people), 7)
    of_person, of_photo = rng.normal(size=(people, statistics)), rng.normal(size=(7 * people, statistics))
    return np.sqrt(similarity) * of_person[person] + np.sqrt(1 - similarity) * of_photo, person


def test_auc_counts_ties_half():
    rng = np.random.default_rng(0)
    low, high = rng.integers(5, size=40), rng.integers(1, 6, size=30)
    assert auc(low, high) == pytest.approx(roc_auc_score([0] * 40 + [1] * 30, np.concatenate([low, high])))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("num_train", "num_eval"), [(60, 20), (40, 60)])
def test_photos_of_one_population_do_not_differ(seed, num_train, num_eval):
    rng = np.random.default_rng(seed)
    train, people = sample(rng, num_train)
    evaluation, _ = sample(rng, num_eval)
    assert not compare_samples(train, people, rng.permutation(evaluation), num_eval).differs


def test_the_threshold_is_higher_where_the_photos_of_a_person_are_similar():
    """Otherwise the similar photos of few people would look like a difference."""
    thresholds = []
    for similarity in (0.0, 0.95):
        rng = np.random.default_rng(0)
        train, people = sample(rng, 60, similarity)
        evaluation, _ = sample(rng, 20, similarity)
        thresholds.append(compare_samples(train, people, evaluation, 20).threshold)
    assert thresholds[1] > thresholds[0] + 0.05


CHANGES = {
    "mean": lambda x: x + np.array([2.5, 0, 0, 0, 0, 0]),
    "part": lambda x: np.where(np.arange(len(x))[:, None] % 2, x, x + 8),
    "constant": lambda x: x,
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_photos_differ(name):
    rng = np.random.default_rng(1)
    train, people = sample(rng, 80)
    evaluation, _ = sample(rng, 40)
    evaluation = CHANGES[name](evaluation)
    if name == "constant":
        # A statistic with one value in each set, such as the size of the photos.
        train[:, 2], evaluation[:, 2] = 5.0, 5.1
    result = compare_samples(train, people, evaluation, 40)
    assert result.differs
    assert result.auc > 0.75


def test_the_same_photos_give_the_same_result():
    rng = np.random.default_rng(2)
    train, people = sample(rng, 30)
    evaluation, _ = sample(rng, 15)
    first, second = (compare_samples(train, people, evaluation, 15) for _ in range(2))
    assert first == second


def test_too_few_people_are_not_compared():
    rng = np.random.default_rng(3)
    train, people = sample(rng, 2 * MIN_COMPARED_PEOPLE)
    evaluation, _ = sample(rng, MIN_COMPARED_PEOPLE)
    assert compare_samples(train, people, evaluation, MIN_COMPARED_PEOPLE) is not None
    assert compare_samples(train[7:], people[7:], evaluation, MIN_COMPARED_PEOPLE) is None
    assert compare_samples(train, people, evaluation[7:], MIN_COMPARED_PEOPLE) is None
    assert compare_samples(train[:0], people[:0], evaluation, MIN_COMPARED_PEOPLE) is None
    assert compare_samples(train, people, evaluation[:0], MIN_COMPARED_PEOPLE) is None


def test_few_people_differ_if_their_photos_can_be_told_apart():
    """The threshold stays below 1, however much the AUC varies."""
    rng = np.random.default_rng(4)
    train, people = sample(rng, 2 * MIN_COMPARED_PEOPLE, 0.98, statistics=20)
    evaluation, _ = sample(rng, MIN_COMPARED_PEOPLE, 0.98, statistics=20)
    assert not compare_samples(train, people, evaluation, MIN_COMPARED_PEOPLE).differs
    assert compare_samples(train, people, evaluation + 8, MIN_COMPARED_PEOPLE).differs
