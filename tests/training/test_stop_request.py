"""--stop-after, and the estimate of the time left."""

from pathlib import Path

import pytest
from conftest import refused, tiny_args
from support import metrics_of, same_run

from maskfold import time_left
from maskfold.errors import UserError
from maskfold.time_left import TimeLeft, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("8h", 28800),
        ("90m", 5400),
        ("90min", 5400),
        ("1h30m", 5400),
        ("2d", 172800),
        ("45s", 45),
        ("1.5h", 5400),
        ("1 h", 3600),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text, "--stop-after") == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "8x", "-1h", "0s", "1h30", "nan h", "1h-30m"])
def test_invalid_durations(text):
    with pytest.raises(UserError, match="--stop-after"):
        parse_duration(text, "--stop-after")


def test_format_duration():
    assert [format_duration(s) for s in (0.4, 45, 120, 5400, 7200, 250_000)] == [
        "0 s",
        "45 s",
        "2 min",
        "1 h 30 min",
        "2 h",
        "2 d 21 h",
    ]


def test_the_estimate_is_updates_left_times_seconds_per_update(monkeypatch, capsys):
    """0.5 s per update; two folds of 1,000 and 2,000 updates, five of them done before; no validation photos."""
    clock = [0.0]
    monkeypatch.setattr(time_left.time, "perf_counter", lambda: clock[0])
    left = TimeLeft({"fold0": 1000, "fold1": 2000})
    for done in range(6, 60):
        left.after_update("fold0", done, 0.0)
        clock[0] += 0.5
    # Printed after the 21st update of this process, the 26th of the fold: 974 + 2,000 updates are left.
    assert capsys.readouterr().err.splitlines() == [
        f"about {format_duration(1487)} left for the whole run (2 parts), at the speed of fold0"
    ]
    at_once = TimeLeft({"fold1": 1000, "fold2": 2000}, parts_at_once=2)
    for done in range(1, 30):
        at_once.after_update("fold1", done, 0.6)
        clock[0] += 0.5
    # 0.6 validation photos per training photo add a fifth to the time; two processes share the later fold.
    assert f"about {format_duration(0.6 * (979 + 1000))} left" in capsys.readouterr().err


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
