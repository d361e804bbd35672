"""The exceptions for errors that the user can fix, and helpers to write their messages."""

import reprlib
from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """An error that the user can fix. Its message names what is wrong, where, and the fix.

    A script prints the message after `error:` and exits with status 2, without a traceback.
    """


class ResourceError(UserError):
    """This machine has run out of a resource: open files, shared memory or processes.

    Under torchrun it may occur in a single process that is not rank 0, so each process prints its own message.
    """


class LockedError(UserError):
    """Another process holds the lock of a folder or is using a file."""


class TimeIsUp(Exception):
    """The time limit is reached and everything is saved; rerun the command to resume."""


def first_line(error: BaseException) -> str:
    """The first line of another library's exception, to quote in a message; its type name if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def one_line(error: BaseException, max_length: int | None = None) -> str:
    """All lines of an exception joined into one and cut to `max_length` characters.

    Use it for libraries that do not give the reason in the first line.
    """
    return " ".join(str(error).split())[:max_length] or type(error).__name__


class _Shortened(reprlib.Repr):
    """repr() of a few levels and entries only: nested YAML aliases can describe more entries than fit into memory."""

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to convert integers of thousands of digits to text.
        return f"an integer of {x.bit_length()} bits" if x.bit_length() > 1000 else repr(x)


_shortened = _Shortened()
_shortened.maxlevel, _shortened.maxstring, _shortened.maxother = 4, 200, 200
_shortened.maxdict = _shortened.maxlist = _shortened.maxtuple = _shortened.maxset = 8


def short_repr(value: object) -> str:
    """repr() of any value from a file, shortened so that it fits into a message."""
    return _shortened.repr(value)


MAX_COMPARED_WORDS = 10_000


def did_you_mean(word: str, valid_words: Iterable[str], n: int = 3) -> str:
    """`; did you mean a, b?` with up to `n` valid words that start with `word` or resemble it, or an empty string."""
    # Comparing the word with tens of thousands of others, such as the columns of a damaged CSV, would take seconds.
    options = list(valid_words)[:MAX_COMPARED_WORDS]
    prefixed = [option for option in options if word and option.startswith(word)]
    close = list(dict.fromkeys([*prefixed, *get_close_matches(word, options, n, 0.6)]))[:n]
    return f"; did you mean {', '.join(close)}?" if close else ""


def indented_list(faults: list[str], max_lines: int = 100) -> str:
    """The faults as an indented list, one per line. Those after the first `max_lines` are only counted."""
    lines = [f"  {fault}" for fault in faults[:max_lines]]
    if len(faults) > max_lines:
        lines.append(f"  ... and {len(faults) - max_lines} more")
    return "\n".join(lines)
