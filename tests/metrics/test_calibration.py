import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskfold.metrics.calibration import (
    apply_temperature,
    cross_fit_temperatures,
    fit_temperature,
    log_loss,
    reliability,
)
from maskfold.probabilities import Predictions


def simulated(temperature: float, n: int = 8000, seed: int = 0) -> Predictions:
    """Labels sampled from probabilities that are then sharpened, which `temperature` reverts. Seven photos a person."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 18))
    true = apply_temperature(np.exp(logits - logits.max(1, keepdims=True)), 1.0)
    labels = (true.cumsum(1) > rng.random((n, 1))).argmax(1)
    probs = apply_temperature(true, 1 / temperature).astype(np.float32)
    people = np.arange(n) // 7
    ids = np.array([f"p{row}" for row in range(n)])
    return Predictions(ids, probs, labels, people % 5, people)


@pytest.mark.parametrize("planted", [0.6, 1.0, 1.5, 2.5])
def test_the_true_temperature_is_found_and_the_error_falls(planted):
    oof = simulated(planted)
    probs, temperatures = cross_fit_temperatures(oof)
    tolerance = 0.03 if planted == 1 else 0.05
    assert all(temperature == pytest.approx(planted, rel=tolerance) for temperature in temperatures.values())
    before, after = reliability(oof.probs, oof.label), reliability(probs, oof.label)
    if planted != 1:
        assert after.error < before.error / 3
        assert log_loss(probs, oof.label) < log_loss(oof.probs, oof.label)
    assert after.error < 0.02
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-9)


def test_the_temperature_of_a_fold_is_fitted_on_the_others():
    """With random labels in fold 0 its own temperature does not change, but those of the other folds do."""
    oof = simulated(1.5)
    clean = cross_fit_temperatures(oof)[1]
    labels = np.where(oof.fold == 0, (oof.label + 7) % 18, oof.label)
    changed = cross_fit_temperatures(Predictions(oof.image_id, oof.probs, labels, oof.fold, oof.person_id))[1]
    assert changed[0] == clean[0]
    assert all(changed[fold] > clean[fold] * 1.05 for fold in range(1, 5))


def test_a_single_fold_stays_unchanged():
    oof = simulated(2.0, n=70)
    alone = Predictions(oof.image_id, oof.probs, oof.label, np.zeros(70, int), oof.person_id)
    probs, temperatures = cross_fit_temperatures(alone)
    assert temperatures == {0: 1.0}
    np.testing.assert_allclose(probs, oof.probs, atol=1e-6)


@given(st.floats(0.1, 10), st.integers(0, 1000))
def test_a_temperature_changes_no_label_and_is_reverted_by_its_inverse(temperature, seed):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(18), 5)
    warm = apply_temperature(probs, temperature)
    assert (warm.argmax(1) == probs.argmax(1)).all()
    np.testing.assert_allclose(warm.sum(1), 1)
    np.testing.assert_allclose(apply_temperature(apply_temperature(probs, 2.0), 0.5), probs, atol=1e-9)


def test_apply_temperature_by_hand():
    np.testing.assert_allclose(apply_temperature(np.array([[0.8, 0.2]]), 2.0), [[2 / 3, 1 / 3]])


def test_calibration_error_by_hand():
    """Four predictions at 0.9, three correct; one at 0.55, incorrect: (4 * 0.15 + 1 * 0.55) / 5."""
    probs = np.zeros((5, 18))
    probs[:, 0], probs[:, 1] = (0.9, 0.9, 0.9, 0.9, 0.55), (0.1, 0.1, 0.1, 0.1, 0.45)
    diagram = reliability(probs, np.array([0, 0, 0, 1, 1]))
    assert diagram.error == pytest.approx((4 * 0.15 + 0.55) / 5)
    assert diagram.num_photos.sum() == 5


@pytest.mark.parametrize("num_correct", [2, 1, 3])
def test_a_temperature_by_hand(num_correct):
    """At 0.8 and correct for a share a of photos: log(0.8 / 0.2) / T = log(a / (1 - a)), so that a = 2/3 gives T = 2."""
    labels = np.array([0] * num_correct + [1] * (4 - num_correct)) if num_correct != 2 else np.array([0, 0, 1])
    probs = np.tile([0.8, 0.2], (len(labels), 1))
    share = (labels == 0).mean()
    expected = np.log(4) / np.log(share / (1 - share)) if share > 0.5 else 20.0
    assert fit_temperature(probs, labels) == pytest.approx(expected, rel=1e-4)


def test_all_correct_gives_the_lowest_temperature():
    """The log loss falls as T approaches 0."""
    probs = np.tile([0.6, 0.3, 0.1], (5, 1))
    assert fit_temperature(probs, np.zeros(5, int)) == pytest.approx(1 / 20, rel=1e-4)


def test_uniform_probabilities_keep_temperature_1():
    assert fit_temperature(np.full((6, 18), 1 / 18, np.float32), np.arange(6)) == 1.0


def test_no_photos_are_refused():
    with pytest.raises(ValueError, match="photos"):
        fit_temperature(np.empty((0, 18)), np.empty(0, int))


def test_a_search_that_does_not_converge_is_reported_and_changes_nothing(capfd):
    """NaN stops the optimiser, as its limit of steps would. Files of predictions may not contain it."""
    probs = np.full((3, 18), 1 / 18)
    probs[1, 4] = np.nan
    assert fit_temperature(probs, np.zeros(3, int)) == 1.0
    assert "temperature" in capfd.readouterr().err


def test_certain_and_incorrect_gives_a_finite_temperature():
    probs = np.zeros((20, 18), np.float32)
    probs[:, 0] = 1
    assert np.isfinite(fit_temperature(probs, np.array([0] * 10 + [1] * 10)))
