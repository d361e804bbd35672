"""Progress of long tasks on stderr: a bar on a terminal, otherwise a plain line every ten seconds."""

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from maskfold.machine_limits import num_cores

SECONDS_BETWEEN_LINES = 10
MAX_CHUNK = 16


def report(line: str, shown: bool = True) -> None:
    """Print a line on stderr immediately. shown: False in all but one of the processes that report the same line."""
    if shown:
        print(line, file=sys.stderr, flush=True)


class Meter:
    """Shows the progress of a task and its rate, as a bar or as plain lines."""

    def __init__(self, task: str, total: int, unit: str, shown: bool):
        self.task, self.total, self.unit = task, total, unit
        self.num_done, self.start = 0, time.monotonic()
        self.last_line = self.start
        console = Console(stderr=True)
        columns = (
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        # Processes that train folds at the same time share a terminal, so they print plain lines.
        has_bar = shown and console.is_terminal and multiprocessing.parent_process() is None
        self.writes_lines = shown and not has_bar
        self.bar = Progress(*columns, console=console, disable=not has_bar, transient=True)
        self.bar_task = self.bar.add_task(task, total=total, rate="")

    def advance(self, n: int, note: str = "") -> None:
        self.num_done += n
        now = time.monotonic()
        rate = self.num_done / max(now - self.start, 1e-9)
        text = f"{rate:,.0f} {self.unit}/s {note}".rstrip()
        self.bar.update(self.bar_task, advance=n, rate=text)
        if self.writes_lines and now - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = now
            seconds = (self.total - self.num_done) / max(rate, 1e-9)
            print(
                f"{self.task}: {self.num_done}/{self.total}, {text}, {seconds:.0f} s left", file=sys.stderr, flush=True
            )


@contextmanager
def progress(task: str, total: int, unit: str, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Show the progress of a task of `total` units.

    Yields the function advance(n, note). Call it when `n` more units are done; `note`, for example the loss, is shown
    next to the rate.
    """
    meter = Meter(task, total, unit, shown)
    with meter.bar:
        yield meter.advance


def parallel_map(function: Callable, items: Sequence, task: str, unit: str) -> Iterator:
    """Yield function(item) for each item in order. One thread per core computes the results; the progress is shown.

    Use it for functions that release the GIL, such as OpenCV's. After an error or a signal, no thread starts another
    chunk.
    """
    pool = ThreadPoolExecutor(num_cores())
    # Threads get items in chunks, because passing each item alone would add a tenth to the time of decoding a photo.
    chunk_size = max(1, min(MAX_CHUNK, len(items) // (8 * num_cores())))
    try:
        with progress(task, len(items), unit) as advance:
            chunks = [items[start : start + chunk_size] for start in range(0, len(items), chunk_size)]
            for results in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
                yield from results
                advance(len(results), "")
    finally:
        pool.shutdown(cancel_futures=True)
