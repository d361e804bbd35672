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


@contextmanager
def progress(task: str, total: int, unit: str, shown: bool = True) -> Iterator[Callable[[int, str], None]]:
    """Yields advance(n, note): `n` more of `total` done, with a note such as the loss; if `shown`, so is the rate."""
    start, done, said = time.monotonic(), 0, time.monotonic()
    console = Console(stderr=True)
    columns = (
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, disable=not (shown and bars and console.is_terminal), transient=True)
    bar_task = bar.add_task(task, total=total, rate="")

    def advance(n: int, note: str = "") -> None:
        nonlocal done, said
        done += n
        now = time.monotonic()
        rate = done / max(now - start, 1e-9)
        words = f"{rate:,.0f} {unit}/s {note}".rstrip()
        bar.update(bar_task, advance=n, rate=words)
        if shown and bar.disable and now - said > SECONDS_BETWEEN_LINES:
            said = now
            left = (total - done) / max(rate, 1e-9)
            print(f"{task}: {done}/{total}, {words}, {left:.0f} s left", file=sys.stderr, flush=True)

    with bar:
        yield advance


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
