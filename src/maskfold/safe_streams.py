"""stdout and stderr that never raise: if a pipe is closed or a disk is full, only the output is lost."""

import io
import os
import sys
from typing import TextIO


class _Sink(io.FileIO):
    """A file descriptor that drops output it cannot write; after a broken pipe it drops all further output."""

    def write(self, content) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, self.fileno())
            os.close(devnull)
        except OSError:
            # A full disk or a lost terminal: only this output is dropped, since a later write may succeed.
            pass
        return memoryview(content).nbytes


def make_streams_safe() -> None:
    """Replace sys.stdout and sys.stderr with streams that never raise. Call it before any file is opened.

    Descriptors that are closed when the program starts (`>&-`) are opened on /dev/null. Otherwise the next opened file
    would get the same number, and libraries would write their output into that file.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # os.open returns the lowest free number, which is this descriptor.
            os.open(os.devnull, os.O_RDWR)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None or _writes_to(stream, descriptor):
            if stream is not None:
                stream.flush()
            setattr(sys, name, _wrapped(descriptor, getattr(stream, "encoding", None) or "utf-8"))


def _writes_to(stream: TextIO, descriptor: int) -> bool:
    """Whether a stream writes to the descriptor directly, not through _Sink. Streams of notebooks and tests do not."""
    try:
        return stream.fileno() == descriptor and not isinstance(getattr(stream.buffer, "raw", None), _Sink)
    except (AttributeError, OSError, ValueError):
        return False


def _wrapped(descriptor: int, encoding: str) -> io.TextIOWrapper:
    sink = _Sink(descriptor, "w", closefd=False)
    by_line = descriptor == 2 or sink.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(sink),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=by_line,
        write_through=by_line,
    )
