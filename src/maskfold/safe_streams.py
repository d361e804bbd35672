"""stdout and stderr that never fail: a closed pipe or a full disk costs output and nothing else."""

import io
import os
import sys
from typing import TextIO


class _Sink(io.FileIO):
    """A file descriptor. What it can't take is dropped; after a broken pipe all that follows is."""

    def write(self, content) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, self.fileno())
            os.close(devnull)
        except OSError:
            # A full disk may have room again for the next line, a terminal may not come back: both are tried again.
            pass
        return memoryview(content).nbytes


def make_streams_safe() -> None:
    """Put streams that never raise in the place of sys.stdout and sys.stderr; to be called before anything is opened.

    A process started with closed descriptors (`>&-`) gets /dev/null for them: the next file opened would take their
    numbers otherwise, and whatever a library prints would be written into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None or _is(stream, descriptor):
            if stream is not None:
                stream.flush()
            setattr(sys, name, _wrapped(descriptor, getattr(stream, "encoding", None) or "utf-8"))


def _is(stream: TextIO, descriptor: int) -> bool:
    """Whether a stream writes to the descriptor; one that somebody put in its place (a notebook, a test) stays."""
    try:
        return stream.fileno() == descriptor and not isinstance(getattr(stream.buffer, "raw", None), _Sink)
    except (AttributeError, OSError, ValueError):
        return False


def _wrapped(descriptor: int, encoding: str) -> io.TextIOWrapper:
    sink = _Sink(descriptor, "w", closefd=False)
    lines = descriptor == 2 or sink.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(sink), encoding=encoding, errors="backslashreplace", line_buffering=lines, write_through=lines
    )
