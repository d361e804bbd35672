"""Measure the processor time and the memory of a call, and end a call that does not return."""

import ctypes
import gc
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_SECONDS, MAX_MEGABYTES = 2.0, 500
# Seconds of processor time after which a call is interrupted, and after which its process is killed because it does not
# return to Python. Not wall time: the machine may be busy or asleep.
INTERRUPT_AFTER, KILL_AFTER = 20, 60
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


# Freed memory that the allocator keeps would hide what a later call takes; from this size on it is given back.
MAX_KEPT_KILOBYTES = 100_000
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
_lowest = float("inf")


class OverBudget(AssertionError):
    """A call took more time or memory than MAX_SECONDS or MAX_MEGABYTES."""


def _kilobytes(field: str) -> int:
    return int(_STATUS.read_text().partition(f"{field}:")[2].split(maxsplit=1)[0])


def _resident() -> int:
    """Kilobytes of memory in use, without what was freed."""
    global _lowest
    now = _kilobytes("VmRSS")
    if now > _lowest + MAX_KEPT_KILOBYTES and _trim is not None:
        gc.collect()
        _trim(0)
        now = _kilobytes("VmRSS")
    _lowest = min(_lowest, now)
    return now


def _interrupt(signum: int, frame: object) -> None:
    raise OverBudget(f"does not end within {INTERRUPT_AFTER} s of processor time")


@contextmanager
def budget() -> Iterator[None]:
    """Raise OverBudget where the block takes too long (processor time) or too much memory (peak of resident memory).

    The memory is measured only on Linux, where a process can reset its peak.
    """
    measures_memory = _CLEAR.exists()
    if measures_memory:
        before = _resident()
        _CLEAR.write_text("5")
    handler = signal.signal(signal.SIGPROF, _interrupt)
    signal.setitimer(signal.ITIMER_PROF, INTERRUPT_AFTER)
    # The default action of SIGVTALRM ends the process.
    signal.setitimer(signal.ITIMER_VIRTUAL, KILL_AFTER)
    start = time.process_time()
    try:
        yield
    finally:
        seconds = time.process_time() - start
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGPROF, handler)
    if seconds > MAX_SECONDS:
        raise OverBudget(f"{seconds:.1f} s of processor time, more than {MAX_SECONDS:.0f}")
    if measures_memory and (megabytes := (_kilobytes("VmHWM") - before) / 1024) > MAX_MEGABYTES:
        raise OverBudget(f"{megabytes:,.0f} MB of memory, more than {MAX_MEGABYTES}")
