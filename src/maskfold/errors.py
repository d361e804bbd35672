"""The one exception for what the user can fix, and pieces of its message."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """What is wrong, where, and what to do. A script prints it after `error:` and exits 2, without a traceback."""


class ResourceError(UserError):
    """This machine has run out of something (open files, shared memory, processes).

    Under torchrun one process may meet it alone, so it is printed by whichever does.
    """


class TimeIsUp(Exception):
    """The time that was given is over; all that was done is saved, and the same command resumes."""


def first_line(error: BaseException) -> str:
    """The first line of another library's exception, to be quoted in a message; its type where it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def one_line(error: BaseException, most: int | None = None) -> str:
    """All lines of an exception joined, for a library that gives the reason below the first; at most `most` letters."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def nearest(word: str, known: Iterable[str], n: int = 3) -> str:
    """`; did you mean a, b?` for the known words that begin with or resemble `word`, or an empty string for none."""
    known = list(known)
    close = [*(other for other in known if word and other.startswith(word)), *get_close_matches(word, known, n, 0.6)]
    close = list(dict.fromkeys(close))[:n]
    return f"; did you mean {', '.join(close)}?" if close else ""


def listed(faults: list[str], most: int = 100) -> str:
    """The faults as an indented list, the ones beyond `most` counted."""
    lines = [f"  {fault}" for fault in faults[:most]]
    if len(faults) > most:
        lines.append(f"  ... and {len(faults) - most} more")
    return "\n".join(lines)
