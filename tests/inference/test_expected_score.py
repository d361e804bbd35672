"""The expected score of a submission: its estimate in simulations, and where submit.py and evaluate.py show it."""

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import first_quick, refused
from simulated_members import simulate_people, simulate_probs, softmax
from support import line_with

from maskfold.inference import expected_score
from maskfold.inference.blend import blend_predictions
from maskfold.inference.expected_score import (
    EvalPredictions,
    FoldGain,
    LabelledPredictions,
    combine_gains,
    expect_score,
    gain_of_repeats,
)
from maskfold.inference.submission_index import INDEX_COLUMNS, SUBMISSION_COLUMNS, read_index
from maskfold.metrics.bootstrap import Resampling, new_set_scores
from maskfold.metrics.calibration import apply_temperature
from maskfold.metrics.scores import macro_f1
from maskfold.probabilities import Predictions, load_predictions

FOLDS, RESAMPLING = 5, Resampling(count=200)


def simulate_fold_probs(rng: np.random.Generator, labels: np.ndarray, shared: float, own: float) -> np.ndarray:
    """Probabilities by the models of each fold, float [K, N, 18]; the errors of the models have a shared part."""
    evidence = 2.5 * np.eye(18)[labels] + shared * rng.normal(size=(len(labels), 18))
    members = evidence + own * rng.normal(size=(FOLDS, len(labels), 18))
    # Models know how frequent the classes are, and are more confident than they should be.
    log_shares = np.log(np.bincount(labels, minlength=18) + 0.5)
    return np.stack([softmax(1.5 * (2.5 * member / (shared**2 + own**2) + log_shares)) for member in members])


def simulate(seed: int, shared: float, own: float, train: int = 400, new: int = 300):
    """(labelled predictions, eval predictions, true labels of the eval photos)."""
    rng = np.random.default_rng(seed)
    labels, people = simulate_people(train, rng)
    fold = np.unique(people, return_inverse=True)[1] % FOLDS
    probs = simulate_fold_probs(rng, labels, shared, own)[fold, np.arange(len(labels))]
    eval_labels, _ = simulate_people(new, rng)
    fold_probs = simulate_fold_probs(rng, eval_labels, shared, own)
    oof = LabelledPredictions(probs, probs.argmax(1), labels, people)
    return oof, EvalPredictions(fold_probs, fold_probs.argmax(2), fold_probs.mean(0).argmax(1)), eval_labels


def test_equal_fold_models_gain_nothing():
    """The interval is that of the out-of-fold score on a new set."""
    oof, unlabelled, _ = simulate(0, 1.0, 1.0)
    one = unlabelled.fold_probs[:1].repeat(FOLDS, 0)
    equal = EvalPredictions(one, one.argmax(2), one.mean(0).argmax(1))
    expected = expect_score(oof, equal, 300, RESAMPLING)
    assert (expected.gain, expected.gain_std_error) == pytest.approx((0, 0), abs=1e-12)
    score = macro_f1(oof.labels, oof.pred_labels)
    assert expected.macro_f1 == pytest.approx(score)
    for people, interval in ((300, expected.interval95), (150, expected.half95)):
        half = 1.959964 * new_set_scores(oof.labels, oof.pred_labels, oof.people, people, RESAMPLING).std(ddof=1)
        assert interval == pytest.approx([score - half, score + half])


def test_the_order_of_folds_and_photos_does_not_matter():
    oof, unlabelled, _ = simulate(1, 1.0, 1.0)
    rng = np.random.default_rng(0)
    folds, photos = rng.permutation(FOLDS), rng.permutation(len(unlabelled.pred_labels))
    shuffled = EvalPredictions(
        unlabelled.fold_probs[folds][:, photos],
        unlabelled.fold_pred_labels[folds][:, photos],
        unlabelled.pred_labels[photos],
    )
    one, other = (expect_score(oof, each, 300, RESAMPLING) for each in (unlabelled, shuffled))
    assert one.gain == pytest.approx(other.gain, abs=1e-9)
    assert one.interval95 == pytest.approx(other.interval95, abs=1e-9)


def test_the_gain_of_models_with_errors_of_their_own_is_found():
    """Four simulated sets: the estimated gain is near the true one, and far above 0."""
    errors, gains, std_errors = [], [], []
    for seed in range(4):
        oof, unlabelled, labels = simulate(seed, 0.7, 0.8)
        expected = expect_score(oof, unlabelled, 300, RESAMPLING)
        singles = [macro_f1(labels, pred_labels) for pred_labels in unlabelled.fold_pred_labels]
        gains.append(macro_f1(labels, unlabelled.pred_labels) - np.mean(singles))
        errors.append(expected.gain - gains[-1])
        std_errors.append(expected.gain_std_error)
        assert expected.gain > 3 * expected.gain_std_error > 0
        assert expected.macro_f1 == pytest.approx(macro_f1(oof.labels, oof.pred_labels) + expected.gain)
    assert min(gains) > 0.03
    # The error of the posterior is a part of the standard error, and has the same sign in all sets.
    assert abs(np.mean(errors)) < 2 * np.mean(std_errors) < np.mean(gains)


def test_the_bias_from_the_sampling_error_of_the_accuracy_is_subtracted(monkeypatch):
    """With the same curve of gains, resampled accuracies whose mean gain is lower by b raise the estimate by b."""
    rng = np.random.default_rng(3)
    labels, people = simulate_people(120, rng)
    probs = simulate_fold_probs(rng, labels, 0.8, 0.8)
    oof = LabelledPredictions(probs[0], probs[0].argmax(1), labels, people)
    unlabelled = EvalPredictions(probs, probs.argmax(2), probs.mean(0).argmax(1))
    accuracy = float((oof.pred_labels == labels).mean())

    def gain_with(accuracies: list[float]) -> float:
        monkeypatch.setattr(expected_score, "new_set_means", lambda *_: np.array(accuracies))
        return expected_score.estimate_fold_gain(oof, unlabelled, 120, RESAMPLING).gain

    uncorrected = gain_with([accuracy, accuracy])
    lower, higher = (2 * uncorrected - gain_with([value, value]) for value in (accuracy - 0.05, accuracy + 0.05))
    assert lower != pytest.approx(higher, abs=1e-4)
    both = gain_with([accuracy - 0.05, accuracy + 0.05])
    assert both == pytest.approx(2 * uncorrected - (lower + higher) / 2)
    assert gain_with([accuracy + 0.05] * 2) == pytest.approx(2 * uncorrected - higher)


def test_the_gains_of_fold_models_and_of_repeats_are_combined_by_hand():
    """Variances 1 and 4: weights 0.8 and 0.2, variance 0.8."""
    combined = combine_gains(FoldGain(0.04, 0.01), FoldGain(0.02, 0.02))
    assert (combined.gain, combined.std_error) == (pytest.approx(0.036), pytest.approx(0.01 * 0.8**0.5))
    assert combine_gains(FoldGain(0.0, 0.0), FoldGain(0.02, 0.02)) == FoldGain(0.0, 0.0)
    repeats = gain_of_repeats({"gain": 0.02, "ci95": [-0.0192, 0.0592]})
    assert (repeats.gain, repeats.std_error) == (0.02, pytest.approx(0.02, rel=1e-3))


def test_members_are_blended_by_fold():
    """Only folds that all members have finished, each with the temperature of its member."""
    rng = np.random.default_rng(0)
    labels, people = simulate_people(60, rng)
    ids, eval_ids = np.array([f"i{n}" for n in range(len(labels))]), np.array(["a", "b", "c"])
    runs = [SimpleNamespace(finished_folds=folds) for folds in ([0, 1, 2], [2, 1])]
    predicted = []
    for run in runs:
        probs = rng.dirichlet(np.ones(18), (len(run.finished_folds), 3)).astype(np.float32)
        oof = Predictions(ids, simulate_probs(labels, rng, 2.0), labels, np.zeros(len(labels), int), people)
        predicted.append((Predictions(eval_ids, probs.mean(0), fold_probs=probs), oof))
    # The second member has its photos in another order.
    predicted[1] = (predicted[1][0].aligned(["c", "a", "b"]), predicted[1][1])
    blend = blend_predictions(runs, None, predicted)
    second = predicted[1][0].aligned(eval_ids).fold_probs[::-1]
    for index, (one, other) in enumerate(zip(predicted[0][0].fold_probs[1:], second, strict=True)):
        pairs = zip((one, other), blend.params.temperatures, strict=True)
        mean = sum(apply_temperature(*pair) for pair in pairs) / 2
        np.testing.assert_allclose(blend.fold_probs[index], mean)
        assert blend.fold_pred_labels[index].tolist() == mean.argmax(1).tolist()


def expected_in(path: str) -> dict:
    return json.loads(Path(path).read_text())["expected"]


def test_submit_prints_and_records_the_expected_score(script, run, other):
    done = script("submit", run, "--out", "subs/a.csv")
    assert done.code == 0, done.err
    expected = expected_in("subs/a.json")
    submission, half = expected["submission"], expected["submission_half95"]
    assert submission["macro_f1"] == pytest.approx(expected["macro_f1"] + submission["gain"])
    low, high = submission["interval95"]
    assert 0 <= half[0] <= low <= submission["macro_f1"] <= high <= half[1] <= 1
    sentence = line_with(done.out, "expected leaderboard score of this submission")
    assert f"macro F1 {submission['macro_f1']:.4f}, with 95 % probability between {low:.2f} and {high:.2f}" in sentence
    assert f"{abs(submission['gain']):.3f}" in sentence
    assert done.out.index(sentence) < done.out.index("board95")
    assert "--seed" not in done.out
    row = read_index(Path("subs")).iloc[0]
    assert tuple(row.index) == INDEX_COLUMNS
    values = [submission["macro_f1"], low, high, *half]
    assert [row[name] for name in SUBMISSION_COLUMNS] == pytest.approx(values)
    for score, where in ((half[0], "inside"), (min(half[1] + 0.01, 1), "OUTSIDE")):
        lines = script("submit", "--record", "subs/a", score).out
        assert f"{where} submission_half95 [{half[0]:.4f}, {half[1]:.4f}]" in lines
        assert f"expected {submission['macro_f1']:.4f}" in lines


def test_repeats_change_the_expected_score(script, run, other):
    """The gain that evaluate.py recorded is combined with that of the fold models."""
    assert script("submit", run, "--out", "a.csv").code == 0
    assert script("evaluate", run, other).code == 0
    assert script("submit", run, "--out", "b.csv").code == 0
    before, after = expected_in("a.json")["submission"], expected_in("b.json")
    combined = combine_gains(
        FoldGain(before["gain"], before["gain_std_error"]), gain_of_repeats(after["mean_of_folds"])
    )
    assert after["submission"]["gain"] == pytest.approx(combined.gain)
    assert after["submission"]["gain_std_error"] == pytest.approx(combined.std_error)


def test_a_submission_is_compared_with_its_interval(script, run, trained):
    """With board95 if an older version made the manifest, which can still be rebuilt."""
    assert script("submit", run, "--out", "a.csv").code == 0
    before, path = Path("a.csv").read_bytes(), Path("a.json")
    manifest, call = json.loads(path.read_text()), ("evaluate", "--submission", "a.csv", "--truth")
    submission = manifest["expected"]["submission"]
    answers = trained.raw / "answers.csv"
    low, high = submission["interval95"]
    line = line_with(script(*call, answers).out, "expected: ")
    assert f"{submission['macro_f1']:.4f}, 95 % interval of the submission [{low:.4f}, {high:.4f}]" in line
    for bounds, where in (([0.0, 1.0], "inside"), ([0.9999, 1.0], "below"), ([-1.0, -0.5], "above")):
        changed = manifest["expected"] | {"submission": submission | {"interval95": bounds}}
        path.write_text(json.dumps(manifest | {"expected": changed}))
        assert f"the score is {where} the interval" in script(*call, answers).out
    for fault, key in (
        ({"macro_f1": "x"}, "macro_f1"),
        ({"interval95": [0.1]}, "interval95"),
        ({"gain": None}, "gain"),
    ):
        changed = manifest["expected"] | {"submission": submission | fault}
        path.write_text(json.dumps(manifest | {"expected": changed}))
        refused(script(*call, answers), "a.json", f" expected.submission.{key}: ", "make the submission again")
    for name in ("submission", "submission_half95"):
        del manifest["expected"][name]
    path.write_text(json.dumps(manifest))
    assert "board95 [" in line_with(script(*call, answers).out, "expected: ")
    assert script("submit", "--from", "a.json", "--out", "b.csv").code == 0
    assert Path("b.csv").read_bytes() == before


def test_an_index_of_an_older_version_is_kept(script, run, other):
    assert script("submit", run, "--out", "subs/old.csv").code == 0
    index = Path("subs/index.csv")
    before = pd.read_csv(index).drop(columns=list(SUBMISSION_COLUMNS))
    before.to_csv(index, index=False)
    done = script("submit", "--record", "subs/old", "0.9")
    assert done.code == 0, done.err
    assert "board_half95 [" in done.out
    assert script("submit", other, "--out", "subs/new.csv").code == 0
    table = read_index(Path("subs"))
    assert tuple(table.columns) == INDEX_COLUMNS
    assert table["name"].tolist() == ["old", "new"]
    assert table.loc[0, list(SUBMISSION_COLUMNS)].isna().all()
    assert table.loc[1, list(SUBMISSION_COLUMNS)].notna().all()
    for name in before:
        if name != "board_score":
            assert table.loc[0, name] == pytest.approx(before.loc[0, name]), name
    assert table.loc[0, "board_score"] == 0.9
    # A column that has always been there is required.
    before.drop(columns="board_low").to_csv(index, index=False)
    refused(script("submit", "--record", "subs/old", "0.9"), "board_low", "missing")


@pytest.mark.parametrize("fold_probs", first_quick("missing", "of fewer folds"))
def test_cached_predictions_without_all_folds_are_computed_again(script, run, fold_probs):
    assert script("submit", run, "--out", "a.csv").code == 0
    path = run / "eval-none.npz"
    before = load_predictions(path)
    assert before.fold_probs.shape == (2, len(before.image_id), 18)
    np.testing.assert_allclose(before.fold_probs.mean(0), before.probs, atol=1e-6)
    replace(before, fold_probs=None if fold_probs == "missing" else before.fold_probs[:1]).save(path)
    done = script("submit", run, "--out", "b.csv")
    assert done.code == 0, done.err
    assert ("computed again" in done.err) == (fold_probs != "missing")
    np.testing.assert_array_equal(load_predictions(path).fold_probs, before.fold_probs)
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    one, other = (expected_in(name)["submission"] for name in ("a.json", "b.json"))
    assert one == other


@pytest.mark.slow
def test_the_estimate_takes_seconds():
    """18,900 + 12,600 photos, five folds; the members of a blend are one set of predictions by then."""
    rng = np.random.default_rng(0)
    labels, people = simulate_people(2700, rng)
    probs = rng.dirichlet(np.ones(18), len(labels))
    fold_probs = rng.dirichlet(np.ones(18), (FOLDS, 12_600))
    oof = LabelledPredictions(probs, probs.argmax(1), labels, people)
    unlabelled = EvalPredictions(fold_probs, fold_probs.argmax(2), fold_probs.mean(0).argmax(1))
    start = time.process_time()
    expect_score(oof, unlabelled, 1800)
    assert time.process_time() - start < 12
