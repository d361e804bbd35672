import multiprocessing
import time

import pytest

from maskfold.progress import SECONDS_BETWEEN_LINES, Meter, parallel_map, progress


def test_results_come_in_order():
    def slow_first(n):
        time.sleep(0.05 * (n == 0))
        return n * n

    assert list(parallel_map(slow_first, range(10), "squares", "numbers")) == [n * n for n in range(10)]


def test_no_new_items_start_after_an_error():
    started = []

    def work(n):
        started.append(n)
        time.sleep(0.01)
        if n == 3:
            raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        list(parallel_map(work, range(1000), "work", "items"))
    assert len(started) < 200


def test_plain_lines_without_a_terminal(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress("training", 100, "images") as advance:
        now[0] = SECONDS_BETWEEN_LINES + 10.0
        advance(40, "loss 0.5")
    [line] = capsys.readouterr().err.splitlines()
    for words in ("training", "40/100", " 2 images/s", "loss 0.5", " 30 s"):
        assert words in line


@pytest.mark.parametrize("is_child", [False, True])
def test_a_child_process_shows_no_bar_on_the_shared_terminal(monkeypatch, is_child):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object() if is_child else None)
    meter = Meter("training", 10, "images", shown=True)
    assert meter.writes_lines == is_child
    assert meter.bar.disable == is_child
