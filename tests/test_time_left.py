"""Durations as text, and the estimate of the time left."""

import pytest

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
    [line] = capsys.readouterr().err.splitlines()
    for words in (format_duration(1487), "2 parts", "fold0"):
        assert words in line
    at_once = TimeLeft({"fold1": 1000, "fold2": 2000}, parts_at_once=2)
    for done in range(1, 30):
        at_once.after_update("fold1", done, 0.6)
        clock[0] += 0.5
    # 0.6 validation photos per training photo add a fifth to the time; two processes share the later fold.
    assert format_duration(0.6 * (979 + 1000)) in capsys.readouterr().err
