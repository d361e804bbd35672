"""What each member of an ensemble contributes, and what each TTA view does."""

import re

import numpy as np
import pytest
from conftest import refused
from simulated_members import simulate_people, simulate_probs

from maskfold.evaluation.members import decision_sentence, leave_one_out, member_correlation, print_members
from maskfold.inference.cross_fit import BlendParams, CrossFitted, cross_fit
from maskfold.metrics.paired_comparison import Comparison
from maskfold.metrics.scores import macro_f1
from maskfold.probabilities import OutOfFold


def test_member_correlation_is_of_the_true_class():
    labels = np.array([0, 1, 2])
    members = np.full((2, 3, 18), 0.01)
    members[0, [0, 1, 2], labels] = 0.2, 0.4, 0.6
    members[1, [0, 1, 2], labels] = 0.9, 0.5, 0.1
    crossed = CrossFitted(members.mean(0), labels, members, np.full((3, 2), 0.5))
    np.testing.assert_allclose(member_correlation(crossed, labels), [[1, -1], [-1, 1]], atol=1e-9)


def test_the_correlation_table_has_a_row_per_member(capsys):
    labels, people = simulate_people(20, np.random.default_rng(0))
    members = np.stack([simulate_probs(labels, np.random.default_rng(seed), 2.0) for seed in (1, 2, 3)])
    crossed = cross_fit(members, labels, people, "mean", "argmax")
    oof = OutOfFold(np.arange(len(labels)).astype(str), members[0], label=labels, fold=labels, person_id=people)
    print_members("abc", crossed, oof, BlendParams([1.0] * 3, [1 / 3] * 3, None))
    table = capsys.readouterr().out.split("correlation of")[1]
    rows = [re.findall(r"[abc]|-?\d\.\d{3}", line) for line in table.splitlines() if line.startswith("│")]
    expected = member_correlation(crossed, labels)
    assert rows == [[name, *(f"{value:.3f}" for value in expected[i, : i + 1])] for i, name in enumerate("abc")]


def test_leaving_a_member_out_by_hand():
    """With two members, the blend without one of them is the other one."""
    rng = np.random.default_rng(0)
    labels, people = simulate_people(40, rng)
    members = np.stack([simulate_probs(labels, rng, 2.0), simulate_probs(labels, rng, 1.0)])
    crossed = cross_fit(members, labels, people, "mean", "argmax")
    costs = leave_one_out(crossed, labels, people)
    whole = macro_f1(labels, crossed.probs.argmax(1))
    for cost, other in zip(costs, members[::-1], strict=True):
        assert cost.difference == pytest.approx(whole - macro_f1(labels, other.argmax(1)))
    alone = cross_fit(members[:1], labels, people, "mean", "argmax")
    assert len(leave_one_out(alone, labels, people)) == 1


def test_evaluate_prints_the_cost_of_leaving_a_member_out(script, run, other):
    done = script("evaluate", run, other)
    assert done.code == 0, done.err
    assert "cost of leaving it out" in done.out


def test_tta_views_are_reported_out_of_fold(script, run):
    done = script("submit", run, "--tta", "none", "hflip", "five_crop", "--tta-report", "--out", "x.csv")
    assert done.code == 0, done.err
    assert "TTA views, out-of-fold" in done.out
    for name in ("none", "hflip", "five_crop", "none+hflip+five_crop"):
        assert (run / f"oof-{name}.npz").exists()
        assert name in done.out
    refused(script("submit", run, "--tta", "hflop", "--out", "x.csv"), "--tta hflop", "hflip")


@pytest.mark.parametrize(("difference", "used"), [(0.01, True), (-0.001, False)])
def test_the_decision_is_explained_with_its_gain_and_interval(difference, used):
    sentence = decision_sentence(Comparison(difference, [difference - 0.002, difference + 0.002], 0.001, 100))
    assert ("not used" in sentence) != used
    assert f"{difference:+.4f} [{difference - 0.002:.4f}, {difference + 0.002:.4f}]" in sentence
