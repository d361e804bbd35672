"""Run each section in a process of its own: an error, a full GPU or a hang ends this section only."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from battery.context import Context
from battery.packages import replace_simplejpeg
from battery.results import Row, SectionResult
from maskfold.errors import first_line
from maskfold.machine_limits import kill_child_processes

# Lines of the section's output that are kept with its error.
LOG_LINES = 25


@dataclass(frozen=True)
class Recorder:
    """What a section calls to record a row or a text; both are sent to the battery's process at once."""

    connection: Connection

    def row(self, *args: Any, **kwargs: Any) -> Row:
        """Record a Row with these fields; return it."""
        row = Row(*args, **kwargs)
        self.connection.send(row)
        return row

    def text(self, title: str, text: str) -> None:
        self.connection.send((title, text))


Section = Callable[[Context, Recorder], None]


def run_section(
    section: Section, context: Context, result: SectionResult, on_change: Callable[[], None], start_method: str
) -> None:
    """Run a section and fill in its result; on_change is called after each change of the result.

    The section's process and all processes that it started are killed when result.budget seconds are over. Its output
    goes to a log, whose end is kept with an error. start_method: fork is faster, because nothing is imported again.
    """
    start, processes = time.monotonic(), get_context(start_method)
    log = context.scratch / f"{result.name}.log"
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=_child, args=(section, context, sender, log))
    process.start()
    # The child has its own copy.
    sender.close()
    result.status = "running"
    try:
        is_last = False
        while not is_last:
            # After the end of the process or of its time, what it has sent is still read.
            is_last = process.exitcode is not None or time.monotonic() - start > result.budget
            while receiver.poll(0 if is_last else 0.2):
                _add(result, receiver.recv())
                on_change()
    # Raised where the child has closed the pipe.
    except EOFError:
        process.join(max(0.0, start + result.budget - time.monotonic()))
    finally:
        exitcode = process.exitcode
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()
        process.join()
    result.seconds = time.monotonic() - start
    if exitcode is None:
        result.status, result.error = "out of time", f"ended after {result.budget:.0f} s"
    elif exitcode:
        result.status = "failed"
        result.error = "\n".join(filter(None, (result.error or f"exit status {exitcode}", _end_of(log))))
    else:
        result.status = "done"
    on_change()


def _add(result: SectionResult, message: Any) -> None:
    if isinstance(message, Row):
        result.rows.append(message)
    elif isinstance(message, str):
        result.error = message
    else:
        result.texts[message[0]] = message[1]


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:]) if log.exists() else ""


def _child(section: Section, context: Context, sender: Connection, log: Path) -> None:
    """Run a section in this process, which leads a process group of its own."""
    os.setsid()
    output = log.open("w", buffering=1)
    # Also the output of libraries in C and of processes that this one starts.
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    sys.stdout = sys.stderr = output
    replace_simplejpeg()
    try:
        section(context, Recorder(sender))
    # Any error is recorded, and the next section runs.
    except BaseException as error:
        traceback.print_exc()
        sender.send(f"{type(error).__name__}: {first_line(error)}")
        sys.exit(1)
    finally:
        kill_child_processes()
        output.flush()
