"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere; both on stderr."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10
# Off where several processes share a terminal: plain lines then.
bars = True
MOST_AT_A_TIME = 16


def report(line: str, shown: bool = True) -> None:
    """A line on stderr at once, where one of several processes reports for all."""
    if shown:
        print(line, file=sys.stderr, flush=True)


class Meter:
    """How far a task is and how fast it goes: on a bar, or in a plain line now and then where bars are not shown."""

    def __init__(self, task: str, total: int, unit: str, shown: bool):
        self.task, self.total, self.unit = task, total, unit
        self.done, self.start = 0, time.monotonic()
        self.last_line = self.start
        console = Console(stderr=True)
        columns = (
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        has_bar = shown and bars and console.is_terminal
        self.writes_lines = shown and not has_bar
        self.bar = Progress(*columns, console=console, disable=not has_bar, transient=True)
        self.bar_task = self.bar.add_task(task, total=total, rate="")

    def advance(self, n: int, note: str = "") -> None:
        self.done += n
        now = time.monotonic()
        rate = self.done / max(now - self.start, 1e-9)
        words = f"{rate:,.0f} {self.unit}/s {note}".rstrip()
        self.bar.update(self.bar_task, advance=n, rate=words)
        if self.writes_lines and now - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = now
            left = (self.total - self.done) / max(rate, 1e-9)
            print(f"{self.task}: {self.done}/{self.total}, {words}, {left:.0f} s left", file=sys.stderr, flush=True)


@contextmanager
def progress(task: str, total: int, unit: str, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Yields advance(n, note): `n` more of `total` done, with a note such as the loss; if `shown`, so is the rate."""
    meter = Meter(task, total, unit, shown)
    with meter.bar:
        yield meter.advance


def parallel(function: Callable, items: Sequence, task: str, unit: str) -> Iterator:
    """function(item) of each item in order, computed by a thread a core, with progress shown.

    For work that leaves Python's lock, as OpenCV's does. Broken off by an error or a signal, it begins no more of it
    than the few items that a thread has in hand.
    """
    pool = ThreadPoolExecutor(os.cpu_count())
    # A few at a time: handing over a single item costs a tenth of decoding a photo.
    few = max(1, min(MOST_AT_A_TIME, len(items) // (8 * (os.cpu_count() or 1))))
    try:
        with progress(task, len(items), unit) as advance:
            pieces = [items[at : at + few] for at in range(0, len(items), few)]
            for results in pool.map(lambda piece: [function(item) for item in piece], pieces):
                yield from results
                advance(len(results), "")
    finally:
        pool.shutdown(cancel_futures=True)
