"""Ensemble weights and decisions chosen out-of-fold: they find real effects, and report no gain without one."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import refused, tiny_args
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_members import simulate_people, simulate_probs, softmax

from maskfold.inference import decision, ensemble_weights
from maskfold.inference.cross_fit import NUM_GROUPS, accepts_decision, assign_groups, cross_fit, decision_gain, fit
from maskfold.inference.decision import decide
from maskfold.inference.ensemble_weights import BLENDS, hard_vote, log_loss_weights
from maskfold.labels import joint_log_probs
from maskfold.metrics.paired_comparison import Comparison
from maskfold.metrics.scores import macro_f1, quick_macro_f1
from maskfold.probabilities import Predictions


@pytest.mark.slow
def test_random_labels_give_no_gain():
    """With random labels the reported gains of blend and decision are noise around zero."""
    gains, decisions = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        labels, people = simulate_people(150, rng)
        members = np.stack([simulate_probs(rng.permutation(labels), rng, skill) for skill in (0.5, 1.0, 2.0)])
        plain = cross_fit(members, labels, people, "mean", "argmax")
        chosen = cross_fit(members, labels, people, "oof", "macro-f1")
        base = macro_f1(labels, plain.probs.argmax(1))
        gains.append(macro_f1(labels, chosen.probs.argmax(1)) - base)
        decisions.append(decision_gain(chosen, labels, people).difference)
        # On the labels it is fitted on, the same procedure reports a gain: cross-fitting removes it.
        params = fit(members, labels, people, "oof", "macro-f1")
        assert macro_f1(labels, params.predict(members)) > base
    for differences in (gains, decisions):
        assert abs(np.mean(differences)) < 0.006
        assert max(np.abs(differences)) < 0.02


def test_a_bias_is_corrected_by_the_decision():
    """The old group's probabilities are divided by 6: the factors correct it, and the gain is significant."""
    rng = np.random.default_rng(0)
    labels, people = simulate_people(700, rng)
    unbiased = simulate_probs(labels, rng, 3.0)
    bias = joint_log_probs(np.zeros((1, 3)), np.zeros((1, 2)), np.log([[1, 1, 1 / 6]]))[0]
    members = softmax(np.log(unbiased) + bias)[None]
    crossed = cross_fit(members, labels, people, "mean", "macro-f1")
    gain = decision_gain(crossed, labels, people)
    lost = macro_f1(labels, unbiased.argmax(1)) - macro_f1(labels, members[0].argmax(1))
    assert lost > 0.03
    assert gain.significant
    assert accepts_decision(gain)
    assert gain.difference > 0.5 * lost
    factors = fit(members, labels, people, "mean", "macro-f1").factors
    assert factors["age"][2] / factors["age"][0] > 2
    assert [len(values) for values in factors.values()] == [3, 2, 3]
    assert all(values[0] == 1 for values in factors.values())


@pytest.mark.parametrize(
    ("difference", "error", "used"), [(0.01, 0.005, True), (0.01, 0.02, False), (-0.001, 0.0001, False)]
)
def test_a_decision_that_may_lose_is_not_used(difference, error, used):
    gain = Comparison(difference, [difference - 1.96 * error, difference + 1.96 * error], error, 100)
    assert accepts_decision(gain) == used


@pytest.mark.parametrize("used", [True, False])
def test_the_blend_uses_the_decision_only_if_it_gains(used):
    """A bias against the old group is corrected; with random predictions argmax is kept."""
    from maskfold.inference import blend as module

    rng = np.random.default_rng(0)
    labels, people = simulate_people(600, rng)
    bias_against_old = joint_log_probs(np.zeros((1, 3)), np.zeros((1, 2)), np.log([[1, 1, 1 / 8]]))[0]
    unbiased = simulate_probs(labels if used else rng.permutation(labels), rng, 3.0)
    probs = softmax(np.log(unbiased) + bias_against_old) if used else unbiased
    ids = np.array([f"i{n}" for n in range(len(labels))])
    oof = Predictions(ids, probs, labels, np.zeros(len(labels), int), people)
    eval_predictions = Predictions(np.array(["a", "b"]), probs[:2], fold_probs=np.stack([probs[:2], probs[2:4]]))
    run = SimpleNamespace(finished_folds=[0, 1])
    blend = module.blend_predictions([run], None, [(eval_predictions, oof)], "mean", "macro-f1")
    assert (blend.params.factors is not None) == used
    assert np.array_equal(blend.cross_fitted.pred_labels, blend.cross_fitted.probs.argmax(1)) != used
    assert blend.decision_gain is not None
    assert blend.pred_labels.tolist() == blend.params.predict(probs[None, :2]).tolist()
    assert blend.fold_pred_labels[0].tolist() == blend.pred_labels.tolist()
    np.testing.assert_array_equal(blend.fold_probs[1], blend.params.probs(probs[None, 2:4]))
    assert blend.fold_pred_labels[1].tolist() == blend.params.predict(probs[None, 2:4]).tolist()


@given(st.integers(0, 100))
@settings(max_examples=20)
def test_factors_of_one_are_argmax(seed):
    rng = np.random.default_rng(seed)
    probs = simulate_probs(rng.integers(18, size=40), rng, 1.0)
    ones = {"mask": [1.0] * 3, "gender": [1.0] * 2, "age": [1.0] * 3}
    assert (decide(probs, ones) == probs.argmax(1)).all()
    # With a factor near 0 for men only women are predicted.
    women = decide(probs, ones | {"gender": [1e-9, 1.0]})
    assert (women % 6 >= 3).all()


def test_a_decision_by_hand():
    probs = np.full((1, 18), 0.01)
    probs[0, 1], probs[0, 2] = 0.5, 0.3
    assert decide(probs, None)[0] == 1
    assert decide(probs, {"mask": [1, 1, 1], "gender": [1, 1], "age": [1, 1, 2.0]})[0] == 2
    assert decide(probs, {"mask": [1, 1, 1], "gender": [1, 1], "age": [1, 1, 1.6]})[0] == 1


def test_a_random_member_gets_little_weight():
    """Two good members and a random one."""
    rng = np.random.default_rng(0)
    labels, people = simulate_people(200, rng)
    good, other, noise = (
        simulate_probs(labels, rng, 2.0),
        simulate_probs(labels, rng, 2.0),
        simulate_probs(rng.permutation(labels), rng, 2.0),
    )
    for name in ("oof", "logloss"):
        weights = BLENDS[name](np.stack([good, noise, other]), labels, people)
        assert weights.sum() == pytest.approx(1)
        assert (weights >= 0).all()
        assert weights[1] < 0.16
        assert min(weights[0], weights[2]) > 0.25
    assert BLENDS["mean"](np.stack([good, noise, other]), labels, people).tolist() == [1 / 3] * 3


@pytest.mark.parametrize("position", range(5))
def test_a_much_better_member_gets_most_weight_in_any_position(position):
    """The other four are weak, and their errors are correlated."""
    rng = np.random.default_rng(0)
    labels, people = simulate_people(100, rng)
    common = rng.normal(0, 2, (len(labels), 18))
    weak = [softmax(np.log(simulate_probs(labels, rng, 1.0)) + common) for _ in range(4)]
    members = np.stack([*weak[:position], simulate_probs(labels, rng, 3.0), *weak[position:]])
    for name in ("oof", "logloss"):
        assert BLENDS[name](members, labels, people)[position] > 0.6, name


def test_log_loss_weights_are_the_optimum():
    """No other point of a fine grid over the simplex has a smaller log loss."""
    rng = np.random.default_rng(3)
    labels, people = simulate_people(60, rng)
    members = np.stack([simulate_probs(labels, rng, skill) for skill in (0.6, 1.0, 1.4)])
    true = members[:, np.arange(len(labels)), labels].astype(float)
    weights = log_loss_weights(members, labels, people)
    grid = [(a, b, 1 - a - b) for a in np.linspace(0, 1, 51) for b in np.linspace(0, 1 - a, 51)]
    best = min(-np.log(np.array(point) @ true).mean() for point in grid)
    assert -np.log(weights @ true).mean() <= best + 1e-6


def test_a_search_for_weights_that_does_not_converge_is_reported(capfd):
    """NaN stops the optimiser, as its limit of steps would. Files of predictions may not contain it."""
    members = np.full((2, 3, 18), 1 / 18)
    members[1, 0] = np.nan
    assert log_loss_weights(members, np.zeros(3, int), np.arange(3)).tolist() == [0.5, 0.5]
    assert "equal weights" in capfd.readouterr().err


def test_a_hard_vote_by_hand():
    """Two of three members predict 4; of two different votes the more confident one counts."""

    def vote(label, p):
        probs = np.full((1, 18), 0.01)
        probs[0, label] = p
        return probs

    assert hard_vote(np.stack([vote(4, 0.4), vote(4, 0.4), vote(9, 0.9)]))[0] == 4
    assert hard_vote(np.stack([vote(4, 0.4), vote(9, 0.9)]))[0] == 9


def test_groups_are_over_people_and_of_equal_size():
    rng = np.random.default_rng(0)
    labels, people = simulate_people(83, rng)
    shuffled = rng.permutation(len(labels))
    groups = assign_groups(labels[shuffled], people[shuffled])
    assert all(len(set(groups[people[shuffled] == person])) == 1 for person in set(people))
    counts = np.bincount(groups) / 7
    assert counts.max() - counts.min() <= 1


def test_no_group_is_fitted_on_its_own_labels(monkeypatch):
    """Changing the labels of a group does not change its predictions."""
    rng = np.random.default_rng(0)
    labels, people = simulate_people(60, rng)
    members = np.stack([simulate_probs(labels, rng, skill) for skill in (1.0, 2.0)])
    groups = assign_groups(labels, people)
    monkeypatch.setattr("maskfold.inference.cross_fit.assign_groups", lambda labels, people: groups)
    before = cross_fit(members, labels, people, "oof", "macro-f1")
    changed = np.where(groups == 2, 17 - labels, labels)
    after = cross_fit(members, changed, people, "oof", "macro-f1")
    mine = groups == 2
    np.testing.assert_array_equal(before.pred_labels[mine], after.pred_labels[mine])
    np.testing.assert_array_equal(before.probs[mine], after.probs[mine])
    assert (before.probs[~mine] != after.probs[~mine]).any()


@pytest.fixture
def two(script, synthetic):
    """Two members that differ in head, crop, size and loss, on the same folds."""
    common = ("--data.prepared", "p", "--optim.lr", 0.01)
    assert script("train", *tiny_args(synthetic, *common, "--name", "a")).code == 0
    more = ("--model.head", "factored", "--data.crop", "none", "--data.image_size", 40, 32, "--loss.name", "focal")
    assert script("train", *tiny_args(synthetic, *common, "--name", "b", *more)).code == 0


def test_a_blend_is_printed_written_and_rebuilt(script, two):
    done = script(
        "submit", "a", "b", "--blend", "oof", "--decision", "macro-f1", "--tta", "hflip", "zoom_in", "--out", "x.csv"
    )
    assert done.code == 0, done.err
    for words in ("members: out-of-fold", "cost of leaving it out", "hard vote", "logloss", "decision macro-f1"):
        assert words in done.out
    manifest = json.loads(Path("x.json").read_text())
    assert sum(manifest["weights"]) == pytest.approx(1)
    assert manifest["blend"] == "oof"
    assert (manifest["factors"] is None) == (manifest["decision"] == "argmax") == ("is not used" in done.out)
    before = Path("x.csv").read_bytes()
    for path in [*Path("runs").glob("*/eval-*.npz"), *Path("runs").glob("*/oof-*.npz")]:
        path.unlink()
    assert script("submit", "--from", "x.json", "--out", "y.csv").code == 0
    assert Path("y.csv").read_bytes() == before


def test_rebuilding_uses_the_factors_of_the_manifest(script, two):
    """Factors that predict only women give another submission, which the hash reveals."""
    assert script("submit", "a", "--out", "x.csv").code == 0
    manifest = json.loads(Path("x.json").read_text())
    women = {"mask": [1, 1, 1], "gender": [1e-9, 1], "age": [1, 1, 1]}
    Path("y.json").write_text(json.dumps(manifest | {"factors": women}))
    if any(int(line.split(",")[1]) % 6 < 3 for line in Path("x.csv").read_text().split()[1:]):
        refused(script("submit", "--from", "y.json", "--out", "y.csv"), "predict other labels")
    for factors in ({"mask": [1, 1]}, [1, 2], {"mask": 3}, women | {"mask": ["a", 1, 1]}, women | {"mask": [0, 1, 1]}):
        Path("y.json").write_text(json.dumps(manifest | {"factors": factors}))
        refused(script("submit", "--from", "y.json", "--out", "y.csv"), "factors")
    for tta in (["hflop"], "none", [], [1]):
        Path("y.json").write_text(json.dumps(manifest | {"tta": tta}))
        refused(script("submit", "--from", "y.json", "--out", "y.csv"), "y.json", "tta")
    for change in ({"members": 5}, {"members": None}, {"weights": ["a"]}, {"weights": [None]}, {"temperatures": [-1]}):
        Path("y.json").write_text(json.dumps(manifest | change))
        refused(script("submit", "--from", "y.json", "--out", "y.csv"), "y.json", "make the submission again")
    for words in (("--decision", "macro-f1"), ("--blend", "oof"), ("--tta", "hflip"), ("--tta-report",)):
        refused(script("submit", "--from", "x.json", *words), "--tta", "--tta-report", "--blend", "--decision")
    # A manifest of an older version, without a decision.
    Path("y.json").write_text(
        json.dumps({key: value for key, value in manifest.items() if key not in ("factors", "decision")})
    )
    assert script("submit", "--from", "y.json", "--out", "y.csv").code == 0


def test_a_member_without_its_weights_is_refused(script, two):
    """Predictions with new TTA views need the weights."""
    assert script("submit", "a", "b", "--out", "x.csv").code == 0
    Path("runs/b/fold1/model.safetensors").unlink()
    refused(
        script("submit", "a", "b", "--tta", "hflip", "--blend", "oof", "--out", "y.csv"), "fold1", "train fold1 again"
    )
    assert not Path("y.csv").exists()


def test_a_blend_scores_a_fixed_number_of_candidates(monkeypatch):
    """However many photos there are: the time of a blend grows with them no faster than one macro F1 does."""
    calls = {ensemble_weights: 0, decision: 0}

    def count(module):
        def counting(*args):
            calls[module] += 1
            return quick_macro_f1(*args)

        monkeypatch.setattr(module, "quick_macro_f1", counting)

    for module in calls:
        count(module)
    rng = np.random.default_rng(0)
    labels, people = simulate_people(40, rng)
    members = np.stack([simulate_probs(labels, rng, skill) for skill in (1.0, 1.5, 2.0)])
    cross_fit(members, labels, people, "oof", "macro-f1")
    candidates = len(members) * ensemble_weights.NUM_STEPS
    assert calls[ensemble_weights] == NUM_GROUPS * ensemble_weights.NUM_WEIGHT_BAGS * candidates
    # Five factors are free.
    steps = 1 + decision.NUM_SWEEPS * 5 * len(decision.STEPS)
    assert 0 < calls[decision] <= NUM_GROUPS * decision.NUM_FACTOR_BAGS * steps
