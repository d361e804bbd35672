"""Proposals need models that separate the classes; without them nobody is proposed, whatever the models' strength."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brute
from scipy.special import expit
from wrong_labels import KINDS, names, people, people_at_strength, turned

from maskfold.audit import label_noise
from maskfold.audit.audit_page import axis_summary
from maskfold.audit.class_separation import MIN_SEPARATION, low_separation, scaled_by_fold, separation
from maskfold.audit.contamination import (
    MAX_SLOPE_FACTOR,
    MIN_EVIDENCE,
    Contamination,
    fit_contamination,
    normal_slope,
)
from maskfold.audit.label_noise import find_suspects
from maskfold.labels import KIND_MASK, decode_label, marginals


@pytest.fixture
def without_cleanlab(monkeypatch):
    """cleanlab takes most of the time and does not change proposals."""
    monkeypatch.setattr(label_noise, "confident_learning", lambda labels, probs: None)


def proposed(oof):
    """{axis: people}"""
    suspects, _ = find_suspects(oof)
    return {axis: set(table.person_id[table.proposed]) for axis, table in suspects.groupby("axis")}


@pytest.mark.parametrize("overconfidence", [0.3, 1, 3, 6])
@pytest.mark.parametrize("strength", [0.2, 0.6, 1, 1.5, 2, 2.5, 3, 4, 6])
def test_correct_labels_cause_few_proposals_at_any_strength(strength, overconfidence, without_cleanlab):
    for seed in range(3):
        people_by_axis = proposed(people_at_strength(150, strength, overconfidence, seed))
        assert max(map(len, people_by_axis.values())) <= 3


# Planted genders found, of 10, the exchanges found, of 6, and the largest error of the estimated rates. Between weaker
# classes some errors have small margins.
@pytest.mark.parametrize(
    ("strength", "min_genders", "min_exchanges", "tolerance"), [(3, 6, 4, 0.035), (4, 8, 6, 0.02), (6, 9, 6, 0.01)]
)
@pytest.mark.parametrize("overconfidence", [0.3, 1, 3])
def test_planted_errors_are_found(overconfidence, strength, min_genders, min_exchanges, tolerance, without_cleanlab):
    genders, exchanges = names(range(10)), names(range(20, 26))
    oof = turned(people_at_strength(150, strength, overconfidence), genders, exchanges)
    people_by_axis = proposed(oof)
    assert people_by_axis["mask"] <= set(exchanges)
    assert len(people_by_axis["mask"]) >= min_exchanges
    assert len(people_by_axis["gender"] & set(genders)) >= min_genders
    assert len(people_by_axis["gender"] - set(genders)) <= 1
    suspects, fits = find_suspects(oof)
    assert fits["gender"].rate == pytest.approx(10 / 150, abs=tolerance)
    assert fits["mask"].rate == pytest.approx(6 / 150, abs=tolerance)
    assert f"proposed: {len(people_by_axis['gender'])}" in axis_summary(
        "gender", fits["gender"], suspects[suspects.axis == "gender"]
    )


def with_temperatures(oof, factors):
    """The same predictions with the logits of each fold multiplied by a factor."""
    logits = np.log(oof.probs.astype(float)) * np.array(factors)[oof.fold][:, None]
    probs = np.exp(logits - logits.max(1, keepdims=True))
    return replace(oof, probs=(probs / probs.sum(1, keepdims=True)).astype(np.float32))


@pytest.mark.parametrize("factors", [(1, 1, 4), (1, 4, 4), (0.5, 1, 3)])
def test_folds_may_differ_in_confidence(factors, without_cleanlab):
    """A more confident fold neither hides nor looks like label errors."""
    for strength in (0.6, 1.5, 2, 2.5, 3, 4):
        people_by_axis = proposed(with_temperatures(people_at_strength(150, strength), factors))
        assert max(map(len, people_by_axis.values())) <= 3
    genders, exchanges = names(range(10)), names(range(20, 26))
    people_by_axis = proposed(with_temperatures(turned(people_at_strength(150, 4), genders, exchanges), factors))
    assert people_by_axis["mask"] == set(exchanges)
    assert len(people_by_axis["gender"] & set(genders)) >= 8
    assert len(people_by_axis["gender"] - set(genders)) <= 1


def test_margins_of_folds_are_scaled_to_one_median():
    margins, folds = np.array([5.0, -5, 20, -20, 20, 0]), np.array([0, 0, 1, 1, 1, 2])
    scaled = scaled_by_fold(margins, folds)
    assert scaled == pytest.approx([12.5, -12.5, 12.5, -12.5, 12.5, 0])
    assert separation(scaled[:5]) == np.inf


def test_models_that_never_predict_incorrect_are_in_doubt(without_cleanlab):
    """The exchanged photos are ranked, but neither proposed nor counted."""
    oof = turned(people_at_strength(150, 6), swaps=names(range(8)))
    cube = oof.probs.reshape(-1, 3, 6).copy()
    # The order of the two photos is kept, but "worn" is always more probable than "incorrect".
    cube[:, 0] = np.maximum(cube[:, 0], 2 * cube[:, 1])
    probs = cube.reshape(-1, 18)
    oof = replace(oof, probs=probs / probs.sum(1, keepdims=True))
    assert not (marginals(oof.probs)["mask"].argmax(1) == 1).any()
    suspects, fits = find_suspects(oof)
    table = suspects[suspects.axis == "mask"]
    assert not table.proposed.any()
    assert table.p_wrong.isna().all()
    assert np.isnan(fits["mask"].rate)
    assert set(table.person_id[table["rank"] <= 8]) == set(names(range(8)))
    text = axis_summary("mask", fits["mask"], table)
    assert "0% of the photos labelled incorrect" in text
    assert text.endswith("proposed: 0")
    assert "an estimated" not in text


def test_models_without_confident_predictions_are_in_doubt(without_cleanlab):
    oof = people_at_strength(150, 1, overconfidence=3)
    suspects, fits = find_suspects(turned(oof, genders=names(range(10))))
    table = suspects[suspects.axis == "gender"]
    assert fits["gender"].evidence <= MIN_EVIDENCE
    assert f"needed: {MIN_SEPARATION}" in axis_summary("gender", fits["gender"], table)
    assert not table.proposed.any()


def test_a_class_without_people_is_named(without_cleanlab):
    oof = people_at_strength(60, 6)
    is_female = decode_label(oof.label)[1] == 1
    one = replace(
        oof, **{name: getattr(oof, name)[is_female] for name in ("image_id", "probs", "label", "fold", "person_id")}
    )
    suspects, fits = find_suspects(one)
    assert "labelled male" in axis_summary("gender", fits["gender"], suspects[suspects.axis == "gender"])


def two_normals(distance, n=400_000):
    rng = np.random.default_rng(0)
    return rng.choice([-1, 1], n) * distance / 2 + rng.normal(size=n)


def test_separation_does_not_depend_on_wrong_labels():
    margins = two_normals(10)
    rng = np.random.default_rng(1)
    assert separation(np.where(rng.random(len(margins)) < 0.3, -margins, margins)) == separation(margins)
    assert separation(margins) == pytest.approx(5, abs=0.05)


def test_the_limit_is_at_two_normals_3_1_deviations_apart():
    assert separation(two_normals(0)) == pytest.approx(1.60, abs=0.01)
    assert separation(two_normals(3.1)) == pytest.approx(MIN_SEPARATION, abs=0.02)
    assert separation(two_normals(2.9)) < MIN_SEPARATION < separation(two_normals(3.3))


def test_very_confident_predictions_are_not_near_the_border():
    """Of log-normal sizes with deviation 0.6, 99 % are above a quarter of the median."""
    rng = np.random.default_rng(0)
    for margins in (np.exp(rng.normal(0, 0.6, 100_000)), two_normals(6) * np.where(rng.random(400_000) < 0.1, 20, 1)):
        assert separation(margins) > 1.1 * MIN_SEPARATION
        assert not low_separation(margins)
    heavy_but_weak = two_normals(0) * np.where(rng.random(400_000) < 0.1, 20, 1)
    assert low_separation(heavy_but_weak)


def test_separation_of_equal_and_of_absent_margins():
    assert separation(np.ones(3)) == np.inf
    for margins in ([], [0, 0, 0], [0, 0, 0, 5]):
        assert separation(np.array(margins, float)) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 0.2), st.floats(0.3, 3), st.integers(30, 300))
def test_fit_is_the_global_maximum_of_the_likelihood(seed, rate, scale, num_people):
    rng = np.random.default_rng(seed)
    margins = scale * rng.normal(4, 2, num_people)
    margins = np.where(rng.random(num_people) < rate, -margins, margins)
    fit = fit_contamination(margins)

    def loss(parameters):
        p_label = expit(np.exp(parameters[0]) * margins)
        return -np.log(np.maximum(p_label + parameters[1] * (1 - 2 * p_label), 1e-12)).sum()

    center = np.log(normal_slope(margins))
    width = np.log(MAX_SLOPE_FACTOR)
    grid = (slice(center - width, center + width, 0.05), slice(0, 0.5, 0.01))
    assert loss((np.log(fit.slope), fit.rate)) <= loss(brute(loss, grid, finish=None)) + 1e-3
    assert 0 <= fit.rate <= 0.5
    assert fit.evidence >= 0


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 100))
def test_the_unit_of_the_margins_does_not_matter(factor, seed):
    rng = np.random.default_rng(seed)
    margins = np.where(rng.random(100) < 0.06, -1, 1) * rng.normal(4, 1.5, 100)
    fit, scaled = fit_contamination(margins), fit_contamination(factor * margins)
    assert scaled.rate == pytest.approx(fit.rate, abs=1e-4)
    assert scaled.evidence == pytest.approx(fit.evidence, abs=1e-3)
    assert scaled.p_wrong(factor * margins) == pytest.approx(fit.p_wrong(margins), abs=1e-3)


def test_equal_margins_are_fitted():
    """All models agree on everybody: the two contradicted labels are wrong."""
    margins = np.where(np.arange(50) < 2, -3.0, 3.0)
    fit = fit_contamination(margins)
    assert fit.rate == pytest.approx(0.04, abs=1e-3)
    assert fit.evidence > MIN_EVIDENCE
    assert (fit.p_wrong(margins) > 0.5).tolist() == (margins < 0).tolist()


def test_p_wrong_of_certain_predictions_is_a_number():
    """exp overflows for margins times slope beyond 700."""
    with np.errstate(all="raise"):
        assert Contamination(50.0, 0.0, 0.0).p_wrong(np.array([-60.0, 60.0])).tolist() == [0, 0]
        assert Contamination(50.0, 0.1, 0.0).p_wrong(np.array([-60.0, 60.0])).tolist() == [1, 0]


def test_people_without_both_photos_are_not_judged_for_exchanges():
    oof = people(60)
    keep = np.tile([KIND_MASK[kind] != 1 for kind in KINDS], 60)
    only = replace(
        oof, **{name: getattr(oof, name)[keep] for name in ("image_id", "probs", "label", "fold", "person_id")}
    )
    suspects, fits = find_suspects(only)
    assert set(suspects.axis) == {"gender", "age"}
    assert fits["mask"].unfitted_reason
