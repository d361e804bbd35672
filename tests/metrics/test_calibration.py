import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskfold.metrics.calibration import cross_fitted, fit_temperature, log_loss, reliability, tempered
from maskfold.probabilities import Predictions


def simulated(temperature: float, n: int = 8000, seed: int = 0) -> Predictions:
    """Labels drawn from probabilities that are then sharpened: what `temperature` undoes. Seven photos a person."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 18))
    true = tempered(np.exp(logits - logits.max(1, keepdims=True)), 1.0)
    labels = (true.cumsum(1) > rng.random((n, 1))).argmax(1)
    said = tempered(true, 1 / temperature).astype(np.float32)
    people = np.arange(n) // 7
    ids = np.array([f"p{row}" for row in range(n)])
    return Predictions(ids, said, labels, people % 5, people)


@pytest.mark.parametrize("planted", [0.6, 1.0, 1.5, 2.5])
def test_the_planted_temperature_is_found_and_the_error_falls(planted):
    oof = simulated(planted)
    probs, temperatures = cross_fitted(oof)
    close = 0.03 if planted == 1 else 0.05
    assert all(found == pytest.approx(planted, rel=close) for found in temperatures.values())
    before, after = reliability(oof.probs, oof.label), reliability(probs, oof.label)
    if planted != 1:
        assert after.error < before.error / 3
        assert log_loss(probs, oof.label) < log_loss(oof.probs, oof.label)
    assert after.error < 0.02
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-9)


def test_a_fold_is_tempered_by_the_others():
    """Labels of fold 0 are turned to nonsense: its own temperature stays what the other folds say."""
    oof = simulated(1.5)
    clean = cross_fitted(oof)[1]
    labels = np.where(oof.fold == 0, (oof.label + 7) % 18, oof.label)
    spoiled = cross_fitted(Predictions(oof.image_id, oof.probs, labels, oof.fold, oof.person_id))[1]
    assert spoiled[0] == clean[0]
    assert all(spoiled[fold] > clean[fold] * 1.05 for fold in range(1, 5))


def test_a_single_fold_stays_as_it_is():
    oof = simulated(2.0, n=70)
    alone = Predictions(oof.image_id, oof.probs, oof.label, np.zeros(70, int), oof.person_id)
    probs, temperatures = cross_fitted(alone)
    assert temperatures == {0: 1.0}
    np.testing.assert_allclose(probs, oof.probs, atol=1e-6)


@given(st.floats(0.1, 10), st.integers(0, 1000))
def test_a_temperature_changes_no_answer_and_is_undone_by_its_inverse(temperature, seed):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(18), 5)
    warm = tempered(probs, temperature)
    assert (warm.argmax(1) == probs.argmax(1)).all()
    np.testing.assert_allclose(warm.sum(1), 1)
    np.testing.assert_allclose(tempered(tempered(probs, 2.0), 0.5), probs, atol=1e-9)


def test_tempered_by_hand():
    np.testing.assert_allclose(tempered(np.array([[0.8, 0.2]]), 2.0), [[2 / 3, 1 / 3]])


def test_calibration_error_by_hand():
    """Four answers at .9, three of them right; one at .55, wrong: (4 * .15 + 1 * .55) / 5."""
    probs = np.zeros((5, 18))
    probs[:, 0], probs[:, 1] = (0.9, 0.9, 0.9, 0.9, 0.55), (0.1, 0.1, 0.1, 0.1, 0.45)
    found = reliability(probs, np.array([0, 0, 0, 1, 1]))
    assert found.error == pytest.approx((4 * 0.15 + 0.55) / 5)
    assert found.photos.sum() == 5


@pytest.mark.parametrize("right", [2, 1, 3])
def test_a_temperature_by_hand(right):
    """At .8 and right in a share a of photos: log(.8 / .2) / T = log(a / (1 - a)), so 2/3 give T = 2."""
    labels = np.array([0] * right + [1] * (4 - right)) if right != 2 else np.array([0, 0, 1])
    probs = np.tile([0.8, 0.2], (len(labels), 1))
    share = (labels == 0).mean()
    wanted = np.log(4) / np.log(share / (1 - share)) if share > 0.5 else 20.0
    assert fit_temperature(probs, labels) == pytest.approx(wanted, rel=1e-4)


def test_all_correct_is_as_cold_as_allowed():
    """The log loss falls without end as T goes to 0."""
    probs = np.tile([0.6, 0.3, 0.1], (5, 1))
    assert fit_temperature(probs, np.zeros(5, int)) == pytest.approx(1 / 20, rel=1e-4)


def test_uniform_probabilities_keep_temperature_1():
    assert fit_temperature(np.full((6, 18), 1 / 18, np.float32), np.arange(6)) == 1.0


def test_no_photos_are_refused():
    with pytest.raises(ValueError, match="photos"):
        fit_temperature(np.empty((0, 18)), np.empty(0, int))


def test_a_search_that_does_not_converge_is_reported_and_changes_nothing(capfd):
    """NaN, which no file of predictions may hold, stops the optimiser; so would its bound on steps."""
    probs = np.full((3, 18), 1 / 18)
    probs[1, 4] = np.nan
    assert fit_temperature(probs, np.zeros(3, int)) == 1.0
    assert "temperature" in capfd.readouterr().err


def test_certain_and_wrong_is_no_infinity():
    probs = np.zeros((20, 18), np.float32)
    probs[:, 0] = 1
    assert np.isfinite(fit_temperature(probs, np.array([0] * 10 + [1] * 10)))
