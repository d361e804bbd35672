import numpy as np
import pytest
from scipy.special import softmax

from maskfold.labels import NUM_CLASSES
from maskfold.metrics.eval_posterior import (
    PosteriorFamily,
    class_shares,
    expected_accuracy,
    expected_macro_f1,
    learnt_log_prior,
    log_probs_of,
    share_offsets,
)
from maskfold.metrics.scores import macro_f1


def test_class_shares_of_a_missing_class():
    shares = class_shares(np.array([0, 0, 1]))
    assert shares[:3] == pytest.approx([(2 + 1 / 18) / 4, (1 + 1 / 18) / 4, 1 / 72])
    assert shares.sum() == pytest.approx(1)


def test_offsets_of_equal_photos_are_the_difference_of_the_logarithms():
    rng = np.random.default_rng(0)
    logits, shares = rng.normal(size=NUM_CLASSES), rng.dirichlet(np.ones(NUM_CLASSES))
    expected = np.log(shares) - logits
    offsets = share_offsets(np.tile(logits, (5, 1)), shares)
    assert offsets == pytest.approx(expected - expected.mean(), abs=1e-3)


@pytest.mark.parametrize("scale", [0.1, 1, 10, 100])
def test_offsets_give_the_shares(scale):
    rng = np.random.default_rng(1)
    logits, shares = scale * rng.normal(size=(3000, NUM_CLASSES)), rng.dirichlet(np.ones(NUM_CLASSES))
    assert softmax(logits + share_offsets(logits, shares), axis=1).mean(0) == pytest.approx(shares, abs=1e-4)


def evidence(rng: np.random.Generator, labels: np.ndarray, strength: float) -> np.ndarray:
    """Log-likelihoods of the classes, float [N, 18]: normal evidence of unit variance with the true class shifted."""
    return strength * (strength * np.eye(NUM_CLASSES)[labels] + rng.normal(size=(len(labels), NUM_CLASSES)))


@pytest.mark.parametrize("learnt", ["the frequencies", "balanced"])
def test_the_learnt_prior_is_found(learnt):
    """A model that multiplies the likelihood with its own class frequencies, and is twice as confident as it should."""
    rng = np.random.default_rng(2)
    shares = rng.dirichlet(np.full(NUM_CLASSES, 3))
    labels = rng.choice(NUM_CLASSES, 20_000, p=shares)
    log_prior = np.log(shares) if learnt == "the frequencies" else np.zeros(NUM_CLASSES)
    logits = 2 * (evidence(rng, labels, 2) + log_prior)
    found = learnt_log_prior(log_probs_of(softmax(logits, axis=1)), labels)
    assert found - found.mean() == pytest.approx(2 * (log_prior - log_prior.mean()), abs=0.25)


def test_a_certain_posterior_gives_the_scores_of_its_labels():
    rng = np.random.default_rng(3)
    labels, pred_labels = rng.integers(NUM_CLASSES, size=(2, 500))
    certain = np.eye(NUM_CLASSES)[labels]
    assert expected_macro_f1(certain, pred_labels) == pytest.approx(macro_f1(labels, pred_labels))
    assert expected_accuracy(certain, pred_labels) == pytest.approx((labels == pred_labels).mean())


def test_expected_macro_f1_by_hand():
    """Two photos, classes 0 and 1: hits .75 and .6, 1 photo predicted each, 1.15 and .85 photos expected."""
    posterior = np.zeros((2, NUM_CLASSES))
    posterior[:, :2] = [[0.75, 0.25], [0.4, 0.6]]
    assert expected_macro_f1(posterior, np.array([0, 1])) == pytest.approx((1.5 / 2.15 + 1.2 / 1.85) / NUM_CLASSES)


def test_the_posterior_is_calibrated_where_models_err_around_a_shared_error():
    """With normal errors, the mean log-probability at a temperature is the posterior: accuracy equals confidence."""
    rng = np.random.default_rng(4)
    shares = rng.dirichlet(np.full(NUM_CLASSES, 3))
    labels = rng.choice(NUM_CLASSES, 20_000, p=shares)
    shared = rng.normal(size=(len(labels), NUM_CLASSES))
    own = rng.normal(size=(5, len(labels), NUM_CLASSES))
    # The evidence of one model has variance 2, that of the mean of five 1.2.
    log_likelihoods = 2.5 * (2.5 * np.eye(NUM_CLASSES)[labels] + shared + own) / 2
    family = PosteriorFamily(log_likelihoods.mean(0), np.log(shares))
    posterior = family.at(1.2 / 2)
    assert posterior.max(1).mean() == pytest.approx((posterior.argmax(1) == labels).mean(), abs=0.01)
    assert posterior.mean(0) == pytest.approx(shares, abs=0.01)
