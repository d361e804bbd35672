"""The one exception for what the user can mend."""

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
