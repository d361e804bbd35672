"""Measure the processor time and the memory of a call, and end the process where a call never returns."""

import faulthandler
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_SECONDS, MAX_MEGABYTES = 2.0, 500
# Seconds of wall time after which a call counts as hanging: the process ends with a traceback of all threads.
HANGS = 120
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class OverBudget(AssertionError):
    """A call took more time or memory than MAX_SECONDS or MAX_MEGABYTES."""


def _kilobytes(field: str) -> int:
    return int(_STATUS.read_text().partition(f"{field}:")[2].split(maxsplit=1)[0])


@contextmanager
def budget() -> Iterator[None]:
    """Raise OverBudget where the block takes too long (processor time) or too much memory (peak of resident memory).

    The memory is measured only on Linux, where a process can reset its peak.
    """
    measures_memory = _CLEAR.exists()
    if measures_memory:
        _CLEAR.write_text("5")
        before = _kilobytes("VmRSS")
    start = time.process_time()
    faulthandler.dump_traceback_later(HANGS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
    seconds = time.process_time() - start
    if seconds > MAX_SECONDS:
        raise OverBudget(f"{seconds:.1f} s of processor time, more than {MAX_SECONDS:.0f}")
    if measures_memory and (megabytes := (_kilobytes("VmHWM") - before) / 1024) > MAX_MEGABYTES:
        raise OverBudget(f"{megabytes:,.0f} MB of memory, more than {MAX_MEGABYTES}")
