"""The scores of runs and submissions, with scripts/evaluate.py."""

import pandas as pd
import pytest
from conftest import refused
from sklearn.metrics import f1_score

from maskfold.config.experiment import replaced
from maskfold.evaluation.score_tables import print_summary


def test_a_submission_with_known_labels_is_scored(script, run, trained):
    assert script("submit", run, "--out", "a.csv").code == 0
    truth = trained.raw / "answers.csv"
    done = script("evaluate", "--submission", "a.csv", "--truth", truth)
    assert done.code == 0
    joined = pd.read_csv(truth).merge(pd.read_csv("a.csv"), on="ImageID")
    expected = f1_score(joined.ans_x, joined.ans_y, labels=range(18), average="macro", zero_division=0)
    assert f"macro F1 {expected:.4f}" in done.out
    assert "95 % interval of the submission [" in done.out
    perfect = pd.read_csv(truth)[["ImageID", "ans"]].sample(frac=1, random_state=0)
    perfect.to_csv("best.csv", index=False)
    assert "macro F1 1.0000" in script("evaluate", "--submission", "best.csv", "--truth", truth).out
    perfect.iloc[1:].to_csv("short.csv", index=False)
    refused(script("evaluate", "--submission", "short.csv", "--truth", truth), "short.csv", "missing")
    refused(script("evaluate", "--submission", "a.csv"), "--truth")
    refused(script("evaluate"), "runs")


@pytest.mark.parametrize(("keep", "is_selected"), [("best", True), ("last", False)])
def test_scores_of_selected_weights_have_a_warning(trained, capsys, keep, is_selected):
    """By the configuration, whatever words the summary has for the weights."""
    summary = trained.summary | {"selection": "the words of a summary"}
    print_summary(summary, replaced(trained.config, run={"keep": keep}))
    assert ("the words of a summary" in capsys.readouterr().out) == is_selected


def test_evaluate_prints_the_scores_of_training(script, run, trained):
    done = script("evaluate", run)
    assert done.code == 0, done.err
    oof = trained.summary["oof"]
    assert f"{oof['macro_f1']:.4f}" in done.out
    assert f"[{oof['board95'][0]:.4f}, {oof['board95'][1]:.4f}]" in done.out
    for title in ("macro F1", "accuracy", "mask", "gender", "age"):
        assert title in done.out


def test_the_manifest_of_another_file_is_ignored(script, run, trained):
    assert script("submit", run, "--out", "a.csv").code == 0
    table = pd.read_csv("a.csv")
    table["ans"] = 0
    table.to_csv("a.csv", index=False)
    done = script("evaluate", "--submission", "a.csv", "--truth", trained.raw / "answers.csv")
    assert done.code == 0
    assert "a.json" in done.out
    assert "board95" not in done.out
