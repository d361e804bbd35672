"""The comparison of runs with scripts/evaluate.py."""

import time
from dataclasses import replace

import numpy as np
import pytest
from support import PATIENCE

from maskfold.probabilities import Predictions, load_predictions


def test_evaluate_compares_runs_in_sentences(script, run, other):
    done = script("evaluate", run, other)
    assert done.code == 0, done.err
    assert "tiny is better than other" in done.out or "no significant difference between tiny and other" in done.out
    assert "largest change of F1 from other to tiny" in done.out
    assert "people with more correct photos in tiny" in done.out
    assert "calibration: temperature" in done.out
    assert (run / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_runs_of_different_labels_are_compared_on_both(script, run, other):
    """The other run is correct on all of its own labels; half of them are the first run's labels too."""
    oof = load_predictions(other / "oof.npz", out_of_fold=True)
    labels = np.where(np.arange(len(oof.label)) % 2, oof.label, (oof.label + 1) % 18)
    replace(oof, label=labels, probs=np.eye(18, dtype=np.float32)[labels]).save(other / "oof.npz")
    done = script("evaluate", run, other)
    assert done.code == 0, done.err
    assert f"{len(labels) // 2} photos of 12 people are labelled differently; on the labels of tiny:" in done.out
    first, second = done.out.split("on the labels of other:")
    assert "change of F1" in first.split("on the labels of tiny:")[1]
    assert "other is better than tiny" in second
    # Runs on different labels are not averaged.
    assert "members: out-of-fold" not in done.out


@pytest.mark.slow
def test_two_full_size_runs_are_evaluated_in_seconds(script, run, other):
    """18,900 rows each, 2,000 resamples: a computation over their product would take hours."""
    rng, n = np.random.default_rng(0), 18_900
    people = np.arange(n) // 7
    labels = rng.integers(0, 6, 2700)[people] + 6 * np.tile([0, 0, 0, 0, 0, 1, 2], 2700)
    for folder in (run, other):
        probs = rng.dirichlet(np.full(18, 0.1), n)
        probs[np.arange(n), labels] += 0.3
        ids = np.array([f"photo{row}" for row in range(n)])
        Predictions(ids, probs / probs.sum(1, keepdims=True), labels, people % 2, people).save(folder / "oof.npz")
    start = time.perf_counter()
    done = script("evaluate", run, other)
    assert done.code == 0, done.err
    assert time.perf_counter() - start < PATIENCE
