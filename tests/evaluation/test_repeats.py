"""Repeats of one experiment, shown together by scripts/evaluate.py."""

from dataclasses import replace

import numpy as np
from sklearn.metrics import f1_score
from support import line_with

from maskfold.metrics.score_text import ci_text
from maskfold.metrics.seed_spread import seed_spread
from maskfold.probabilities import load_predictions


def test_evaluate_shows_repeats_together(script, run, other):
    """Mean and standard deviation by hand, with scikit-learn's macro F1."""
    oof = load_predictions(run / "oof.npz", out_of_fold=True)
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(len(oof.label)) < 0.5, oof.label, oof.pred_labels)
    replace(oof, probs=np.eye(18, dtype=np.float32)[labels]).save(other / "oof.npz")
    done = script("evaluate", run, other)
    assert done.code == 0, done.err
    a, b = (
        f1_score(oof.label, each, labels=range(18), average="macro", zero_division=0)
        for each in (oof.pred_labels, labels)
    )
    bounds = seed_spread(oof.label, [oof.pred_labels, labels], oof.person_id)["macro_f1"].interval95
    line = line_with(done.out, "2 repeats:")
    # The standard deviation of two values is their difference divided by the square root of 2.
    assert f"mean macro F1 {(a + b) / 2:.4f}, standard deviation over repeats {abs(a - b) / 2**0.5:.4f}" in line
    assert line.endswith(f"interval over people and seeds {ci_text(bounds)}")
    table = done.out.split("repeats: out-of-fold")[1]
    for score, name, seed in ((a, "tiny", "42"), (b, "other", "43")):
        assert f"{score:.4f}" in line_with(table, name, seed)
    assert "(estimated from tiny, other)" in done.out


def test_other_runs_are_not_shown_as_repeats(script, run, other):
    config = other / "config.yaml"
    config.write_text(config.read_text().replace("seed: 43\ndata:", "seed: 42\ndata:"))
    from maskfold.fileio import read_json, sha256, write_json

    provenance = read_json(other / "provenance.json", "")
    write_json(other / "provenance.json", provenance | {"config_sha256": sha256(config)})
    done = script("evaluate", run, other)
    assert done.code == 0, done.err
    assert "repeats:" not in done.out
