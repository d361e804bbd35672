"""--stop-after, and the estimate of the time left."""

from pathlib import Path

import pytest
from conftest import refused, tiny_args
from support import metrics_of, same_run


def test_stop_after_saves_and_the_run_resumes(script, synthetic, trained):
    args = tiny_args(synthetic, "--name", "timed")
    stopped = script("train", *args, "--stop-after", "0.01s")
    assert stopped.code == 0, stopped.err
    assert "train.py" in stopped.out
    assert "--stop-after" in stopped.out
    assert Path("runs/timed/fold0/state/last.pt").exists()
    assert not Path("runs/timed/summary.json").exists()
    again = script("train", *args)
    assert again.code == 0, again.err
    same_run(trained.run.folder, Path("runs/timed"))
    assert script("train", *args, "--stop-after", "1h").code == 0


@pytest.mark.slow
def test_no_new_fold_starts_after_the_deadline(script, synthetic):
    stopped = script(
        "train",
        *tiny_args(synthetic, "--name", "p", "--parallel-folds", 2, "--optim.epochs", 500, "--stop-after", "20s"),
    )
    assert stopped.code == 0, stopped.err
    assert not list(Path("runs/p").rglob("oof.npz"))
    assert all(len(metrics_of(path.parent)) < 500 for path in Path("runs/p").glob("fold*/metrics.jsonl"))


def test_an_invalid_time_is_an_error_before_anything_is_written(script, synthetic):
    refused(script("train", *tiny_args(synthetic, "--stop-after", "soon")), "--stop-after", "8h")
    assert not Path("runs").exists()
