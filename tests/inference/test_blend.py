"""Weights and decisions chosen out-of-fold: what they find, what they must not find, and what they are applied to."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import refused, tiny_args
from hypothesis import given, settings
from hypothesis import strategies as st
from support import PATIENCE

from maskfold.evaluation.members import leave_one_out, likeness, said_of_decision
from maskfold.inference.cross_fit import CrossFitted, cross_fit, decision_gain, fit, is_worth_it, own_folds
from maskfold.inference.decision import decide
from maskfold.inference.ensemble_weights import BLENDS, hard_vote, log_loss_weights
from maskfold.labels import joint_log_probs
from maskfold.metrics.bootstrap import Comparison
from maskfold.metrics.scores import macro_f1
from maskfold.probabilities import Predictions

# The competition's photos a class, a tenth of them people.
COUNTS = np.array([274, 205, 41, 366, 408, 54])


def people_of(n, rng):
    """Labels and persons of n people's seven photos."""
    kinds = np.array([0, 0, 0, 0, 0, 1, 2])
    strata = rng.choice(6, n, p=COUNTS / COUNTS.sum())
    labels = (kinds[None] * 6 + strata[:, None]).ravel()
    return labels, np.repeat([f"p{i:05d}" for i in range(n)], 7)


def opinions(labels, rng, skill, noise=1.0):
    """Calibrated enough probabilities [N, 18] that know the label as well as `skill` says."""
    logits = rng.normal(0, noise, (len(labels), 18))
    logits[np.arange(len(labels)), labels] += skill
    return softmax(logits)


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def test_random_labels_give_no_gain():
    """Labels that no member knows anything of: what blend and decision are reported to gain is noise around zero."""
    gains, decisions = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        labels, people = people_of(150, rng)
        members = np.stack([opinions(rng.permutation(labels), rng, skill) for skill in (0.5, 1.0, 2.0)])
        plain = cross_fit(members, labels, people, "mean", "argmax")
        chosen = cross_fit(members, labels, people, "oof", "macro-f1")
        base = macro_f1(labels, plain.probs.argmax(1))
        gains.append(macro_f1(labels, chosen.probs.argmax(1)) - base)
        decisions.append(decision_gain(chosen, labels, people).difference)
        # On the labels it is fitted on the same procedure does find something: cross-fitting is what takes it away.
        fitted = fit(members, labels, people, "oof", "macro-f1")
        assert macro_f1(labels, fitted.pred_labels(members)) > base
    for found in (gains, decisions):
        assert abs(np.mean(found)) < 0.006
        assert max(np.abs(found)) < 0.02


def test_a_planted_bias_is_found():
    """The old group's probabilities divided by 6: factors near 6 bring it back, and the gain's interval says so."""
    rng = np.random.default_rng(0)
    labels, people = people_of(700, rng)
    straight = opinions(labels, rng, 3.0)
    bias = joint_log_probs(np.zeros((1, 3)), np.zeros((1, 2)), np.log([[1, 1, 1 / 6]]))[0]
    members = softmax(np.log(straight) + bias)[None]
    found = cross_fit(members, labels, people, "mean", "macro-f1")
    gain = decision_gain(found, labels, people)
    lost = macro_f1(labels, straight.argmax(1)) - macro_f1(labels, members[0].argmax(1))
    assert lost > 0.03
    assert gain.seen
    assert is_worth_it(gain)
    assert gain.difference > 0.5 * lost
    factors = fit(members, labels, people, "mean", "macro-f1").factors
    assert factors["age"][2] / factors["age"][0] > 2
    assert [len(of) for of in factors.values()] == [3, 2, 3]
    assert all(of[0] == 1 for of in factors.values())


@pytest.mark.parametrize(
    ("difference", "error", "taken"), [(0.01, 0.005, True), (0.01, 0.02, False), (-0.001, 0.0001, False)]
)
def test_a_decision_that_may_lose_is_not_taken(difference, error, taken):
    gain = Comparison(difference, [difference - 1.96 * error, difference + 1.96 * error], error, 100)
    assert is_worth_it(gain) == taken
    told = said_of_decision(gain)
    assert ("is not taken" in told) != taken
    assert ("gains nothing" in told) == (difference < 0)


@pytest.mark.parametrize("taken", [True, False])
def test_the_blend_takes_the_decision_or_leaves_it(taken, monkeypatch):
    """From planted predictions on: an old group held back is brought back; where nothing is known argmax stands."""
    from maskfold.inference import blend as module

    rng = np.random.default_rng(0)
    labels, people = people_of(600, rng)
    held_back = joint_log_probs(np.zeros((1, 3)), np.zeros((1, 2)), np.log([[1, 1, 1 / 8]]))[0]
    straight = opinions(labels if taken else rng.permutation(labels), rng, 3.0)
    probs = softmax(np.log(straight) + held_back) if taken else straight
    ids = np.array([f"i{n}" for n in range(len(labels))])
    oof = Predictions(ids, probs, labels, np.zeros(len(labels), int), people)
    evaluation = Predictions(np.array(["a", "b"]), probs[:2])
    monkeypatch.setattr(module, "_predicted", lambda runs, views: ([None], [(evaluation, oof)]))
    found = module.blend_runs([None], ("none",), "mean", "macro-f1")
    assert (found.fitted.factors is not None) == taken
    assert np.array_equal(found.crossed.pred_labels, found.crossed.probs.argmax(1)) != taken
    assert found.gain is not None
    assert found.pred_labels.tolist() == found.fitted.pred_labels(probs[None, :2]).tolist()


@given(st.integers(0, 100))
@settings(max_examples=20)
def test_factors_of_one_are_argmax(seed):
    rng = np.random.default_rng(seed)
    probs = opinions(rng.integers(18, size=40), rng, 1.0)
    ones = {"mask": [1.0] * 3, "gender": [1.0] * 2, "age": [1.0] * 3}
    assert (decide(probs, ones) == probs.argmax(1)).all()
    # A factor of nothing for all but women leaves women.
    women = decide(probs, ones | {"gender": [1e-9, 1.0]})
    assert (women % 6 >= 3).all()


def test_a_decision_by_hand():
    probs = np.full((1, 18), 0.01)
    probs[0, 1], probs[0, 2] = 0.5, 0.3
    assert decide(probs, None)[0] == 1
    assert decide(probs, {"mask": [1, 1, 1], "gender": [1, 1], "age": [1, 1, 2.0]})[0] == 2
    assert decide(probs, {"mask": [1, 1, 1], "gender": [1, 1], "age": [1, 1, 1.6]})[0] == 1


def test_weights_go_to_who_knows():
    """One member knows, one is noise, one repeats the first: noise gets next to nothing."""
    rng = np.random.default_rng(0)
    labels, people = people_of(200, rng)
    good, other, noise = (
        opinions(labels, rng, 2.0),
        opinions(labels, rng, 2.0),
        opinions(rng.permutation(labels), rng, 2.0),
    )
    for name in ("oof", "logloss"):
        weights = BLENDS[name](np.stack([good, noise, other]), labels, people)
        assert weights.sum() == pytest.approx(1)
        assert (weights >= 0).all()
        assert weights[1] < 0.16
        assert min(weights[0], weights[2]) > 0.25
    assert BLENDS["mean"](np.stack([good, noise, other]), labels, people).tolist() == [1 / 3] * 3


@pytest.mark.parametrize("place", range(5))
def test_a_member_far_above_the_others_counts_wherever_it_stands(place):
    """Four weak ones that err together; the strong one gets most of the weight in any place."""
    rng = np.random.default_rng(0)
    labels, people = people_of(100, rng)
    common = rng.normal(0, 2, (len(labels), 18))
    weak = [softmax(np.log(opinions(labels, rng, 1.0)) + common) for _ in range(4)]
    members = np.stack([*weak[:place], opinions(labels, rng, 3.0), *weak[place:]])
    for name in ("oof", "logloss"):
        assert BLENDS[name](members, labels, people)[place] > 0.6, name


def test_likeness_is_the_correlation_of_the_true_class(monkeypatch):
    labels = np.array([0, 1, 2])
    members = np.full((2, 3, 18), 0.01)
    members[0, [0, 1, 2], labels] = 0.2, 0.4, 0.6
    members[1, [0, 1, 2], labels] = 0.9, 0.5, 0.1
    crossed = CrossFitted(members.mean(0), labels, members, np.full((3, 2), 0.5))
    np.testing.assert_allclose(likeness(crossed, labels), [[1, -1], [-1, 1]], atol=1e-9)


def test_log_loss_weights_are_the_optimum():
    """No other point of a fine grid over the simplex has a smaller log loss."""
    rng = np.random.default_rng(3)
    labels, people = people_of(60, rng)
    members = np.stack([opinions(labels, rng, skill) for skill in (0.6, 1.0, 1.4)])
    true = members[:, np.arange(len(labels)), labels].astype(float)
    found = log_loss_weights(members, labels, people)
    grid = [(a, b, 1 - a - b) for a in np.linspace(0, 1, 51) for b in np.linspace(0, 1 - a, 51)]
    best = min(-np.log(np.array(weights) @ true).mean() for weights in grid)
    assert -np.log(found @ true).mean() <= best + 1e-6


def test_a_hard_vote_by_hand():
    """Two of three say 4; of two who differ the surer one is right."""
    sure = np.full((1, 18), 0.01)

    def says(label, p):
        probs = sure.copy()
        probs[0, label] = p
        return probs

    assert hard_vote(np.stack([says(4, 0.4), says(4, 0.4), says(9, 0.9)]))[0] == 4
    assert hard_vote(np.stack([says(4, 0.4), says(9, 0.9)]))[0] == 9


def test_groups_are_over_people_and_alike():
    rng = np.random.default_rng(0)
    labels, people = people_of(83, rng)
    shuffled = rng.permutation(len(labels))
    groups = own_folds(labels[shuffled], people[shuffled])
    assert all(len(set(groups[people[shuffled] == person])) == 1 for person in set(people))
    counts = np.bincount(groups) / 7
    assert counts.max() - counts.min() <= 1


def test_nothing_of_a_group_is_fitted_on_it(monkeypatch):
    """Change a group's labels: what is said of its photos stays."""
    rng = np.random.default_rng(0)
    labels, people = people_of(60, rng)
    members = np.stack([opinions(labels, rng, skill) for skill in (1.0, 2.0)])
    groups = own_folds(labels, people)
    monkeypatch.setattr("maskfold.inference.cross_fit.own_folds", lambda labels, people: groups)
    before = cross_fit(members, labels, people, "oof", "macro-f1")
    spoiled = np.where(groups == 2, 17 - labels, labels)
    after = cross_fit(members, spoiled, people, "oof", "macro-f1")
    mine = groups == 2
    np.testing.assert_array_equal(before.pred_labels[mine], after.pred_labels[mine])
    np.testing.assert_array_equal(before.probs[mine], after.probs[mine])
    assert (before.probs[~mine] != after.probs[~mine]).any()


def test_leaving_a_member_out_by_hand():
    """With one weight of all, the blend without it is the other member."""
    rng = np.random.default_rng(0)
    labels, people = people_of(40, rng)
    members = np.stack([opinions(labels, rng, 2.0), opinions(labels, rng, 1.0)])
    crossed = cross_fit(members, labels, people, "mean", "argmax")
    costs = leave_one_out(crossed, labels, people)
    whole = macro_f1(labels, crossed.probs.argmax(1))
    for cost, other in zip(costs, members[::-1], strict=True):
        assert cost.difference == pytest.approx(whole - macro_f1(labels, other.argmax(1)))
    alone = cross_fit(members[:1], labels, people, "mean", "argmax")
    assert len(leave_one_out(alone, labels, people)) == 1


@pytest.fixture
def two(script, synthetic):
    """Two members that differ in head, crop, size and loss, on the same folds."""
    common = ("--data.prepared", "p", "--optim.lr", 0.01)
    assert script("train", *tiny_args(synthetic, *common, "--name", "a")).code == 0
    more = ("--model.head", "factored", "--data.crop", "none", "--data.image_size", 40, 32, "--loss.name", "focal")
    assert script("train", *tiny_args(synthetic, *common, "--name", "b", *more)).code == 0


def test_a_blend_is_shown_kept_and_rebuilt(script, two):
    done = script(
        "submit", "a", "b", "--blend", "oof", "--decision", "macro-f1", "--tta", "hflip", "zoom_in", "--out", "x.csv"
    )
    assert done.code == 0, done.err
    for words in ("members, out-of-fold", "leaving it out costs", "hard vote", "logloss", "decision macro-f1"):
        assert words in done.out
    held = json.loads(Path("x.json").read_text())
    assert sum(held["weights"]) == pytest.approx(1)
    assert held["blend"] == "oof"
    assert (held["factors"] is None) == (held["decision"] == "argmax") == ("is not taken" in done.out)
    before = Path("x.csv").read_bytes()
    for path in [*Path("runs").glob("*/eval-*.npz"), *Path("runs").glob("*/oof-*.npz")]:
        path.unlink()
    assert script("submit", "--from", "x.json", "--out", "y.csv").code == 0
    assert Path("y.csv").read_bytes() == before


def test_rebuilding_takes_the_manifests_factors(script, two):
    """A manifest whose factors leave women alone is another submission, and the hash says so."""
    assert script("submit", "a", "--out", "x.csv").code == 0
    held = json.loads(Path("x.json").read_text())
    women = {"mask": [1, 1, 1], "gender": [1e-9, 1], "age": [1, 1, 1]}
    Path("y.json").write_text(json.dumps(held | {"factors": women}))
    if any(int(line.split(",")[1]) % 6 < 3 for line in Path("x.csv").read_text().split()[1:]):
        refused(script("submit", "--from", "y.json", "--out", "y.csv"), "answer differently")
    for factors in ({"mask": [1, 1]}, [1, 2], {"mask": 3}, women | {"mask": ["a", 1, 1]}, women | {"mask": [0, 1, 1]}):
        Path("y.json").write_text(json.dumps(held | {"factors": factors}))
        refused(script("submit", "--from", "y.json", "--out", "y.csv"), "factors")
    for tta in (["hflop"], "none", [], [1]):
        Path("y.json").write_text(json.dumps(held | {"tta": tta}))
        refused(script("submit", "--from", "y.json", "--out", "y.csv"), "y.json", "tta")
    for change in ({"members": 5}, {"members": None}, {"weights": ["a"]}, {"weights": [None]}, {"temperatures": [-1]}):
        Path("y.json").write_text(json.dumps(held | change))
        refused(script("submit", "--from", "y.json", "--out", "y.csv"), "y.json", "members", "weights", "temperatures")
    for words in (("--decision", "macro-f1"), ("--blend", "oof"), ("--tta", "hflip"), ("--tta-report",)):
        refused(script("submit", "--from", "x.json", *words), "--tta", "--tta-report", "--blend", "--decision")
    # One of before there were decisions.
    Path("y.json").write_text(
        json.dumps({key: value for key, value in held.items() if key not in ("factors", "decision")})
    )
    assert script("submit", "--from", "y.json", "--out", "y.csv").code == 0


def test_views_are_reported_and_each_is_predicted_out_of_fold(script, two):
    done = script("submit", "a", "--tta", "none", "hflip", "five_crop", "--tta-report", "--out", "x.csv")
    assert done.code == 0, done.err
    assert "views, out-of-fold" in done.out
    for name in ("none", "hflip", "five_crop", "none+hflip+five_crop"):
        assert Path(f"runs/a/oof-{name}.npz").exists()
        assert name in done.out
    refused(script("submit", "a", "--tta", "hflop", "--out", "x.csv"), "--tta hflop", "hflip")


def test_evaluate_shows_what_members_are_worth(script, two):
    done = script("evaluate", "a", "b")
    assert done.code == 0, done.err
    assert "leaving it out costs" in done.out


def test_a_member_without_its_models_is_refused(script, two):
    """Of a run whose weights are gone nothing can be predicted with these views."""
    assert script("submit", "a", "b", "--out", "x.csv").code == 0
    Path("runs/b/fold1/model.safetensors").unlink()
    refused(
        script("submit", "a", "b", "--tta", "hflip", "--blend", "oof", "--out", "y.csv"), "fold1", "train fold1 again"
    )
    assert not Path("y.csv").exists()


@pytest.mark.slow
def test_blending_ten_members_of_18900_photos_is_quick():
    rng = np.random.default_rng(0)
    labels, people = people_of(2700, rng)
    members = np.stack([opinions(labels, rng, skill) for skill in np.linspace(1, 2.5, 10)])
    start = time.perf_counter()
    crossed = cross_fit(members, labels, people, "oof", "macro-f1")
    fit(members, labels, people, "oof", "macro-f1")
    blended = time.perf_counter() - start
    leave_one_out(crossed, labels, people)
    print(f"blend and decision {blended:.1f} s, leave-one-out {time.perf_counter() - start - blended:.1f} s")
    assert time.perf_counter() - start < PATIENCE
