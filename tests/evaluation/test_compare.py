"""The comparison of runs with scripts/evaluate.py."""

from dataclasses import replace

import numpy as np
from support import line_with

from maskfold.evaluation.compare import differences
from maskfold.metrics import bootstrap
from maskfold.metrics.bootstrap import RESAMPLES
from maskfold.metrics.paired_comparison import compare
from maskfold.metrics.scores import tally
from maskfold.probabilities import load_predictions


def test_evaluate_prints_the_difference_and_who_changed(script, run, other):
    """In the other run all photos of one person are correct, and all those of another person are incorrect."""
    oof = load_predictions(run / "oof.npz", out_of_fold=True)
    gained, lost = np.unique(oof.person_id)[:2]
    labels = np.where(oof.person_id == gained, oof.label, oof.pred_labels)
    labels = np.where(oof.person_id == lost, (oof.label + 1) % 18, labels)
    replace(oof, probs=np.eye(18, dtype=np.float32)[labels]).save(other / "oof.npz")
    done = script("evaluate", run, other)
    assert done.code == 0, done.err
    difference = compare(oof.label, oof.pred_labels, labels, oof.person_id)
    line = line_with(done.out, "tiny", "other", f"{abs(difference.difference):.4f} [")
    assert all(f"{abs(end):.4f}" in line for end in difference.ci95)
    correct = oof.pred_labels == oof.label
    changes = [
        f"{person} {(correct & (oof.person_id == person)).sum() - num_correct:+d}"
        for person, num_correct in ((gained, 7), (lost, 0))
    ]
    assert all(change in done.out for change in changes if not change.endswith("+0"))
    assert (run / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_runs_of_different_labels_are_compared_on_both(script, run, other):
    """The other run is correct on all of its own labels; half of them are the first run's labels too."""
    oof = load_predictions(other / "oof.npz", out_of_fold=True)
    labels = np.where(np.arange(len(oof.label)) % 2, oof.label, (oof.label + 1) % 18)
    new = replace(oof, label=labels, probs=np.eye(18, dtype=np.float32)[labels])
    new.save(other / "oof.npz")
    done = script("evaluate", run, other)
    assert done.code == 0, done.err
    lines = differences(("tiny", "other"), oof, new)
    assert f"{len(labels) // 2} photos of 12 people" in lines[0]
    # The verdict, the classes and the people on the labels of each run.
    assert len(lines) == 2 * 4
    assert "\n".join(lines) in done.out
    better = compare(labels, oof.pred_labels, labels, oof.person_id)
    assert f"{-better.difference:.4f}" in lines[5]
    # Runs on different labels are not averaged.
    assert "members" not in done.out


def test_photos_are_not_counted_again_for_each_resample(script, run, other, monkeypatch):
    """A resample adds up the counts of its people: with a pass over all photos it would take minutes."""
    passes = []

    def counting(*args):
        passes.append(args)
        return tally(*args)

    monkeypatch.setattr(bootstrap, "tally", counting)
    done = script("evaluate", run, other)
    assert done.code == 0, done.err
    assert 0 < len(passes) < RESAMPLES / 10
