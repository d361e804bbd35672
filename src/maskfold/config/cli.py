"""The command line that all scripts share: the parser, one flag per key of the schema, and exit statuses."""

import argparse
import errno
import os
import shlex
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from maskfold.config.config_flags import config_flags
from maskfold.errors import ResourceError, TimeIsUp, UserError, did_you_mean
from maskfold.fileio import CANNOT_WRITE
from maskfold.machine_limits import kill_child_processes, raise_file_limit, too_many_files_error
from maskfold.safe_streams import make_streams_safe
from maskfold.utf8_mode import use_utf8

INTERRUPTED = 128 + signal.SIGINT
_STOPPED = {128 + signal.SIGTERM: "terminated", 128 + signal.SIGHUP: "the terminal was closed"}
_RERUN = "rerun the command; if it was training, the training resumes from its last checkpoint"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UserError, suggests the closest flags, and accepts _ instead of - in flags."""

    def __init__(self, **kwargs: Any):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def parse_args(self, args=None, namespace=None):
        flags = [flag for action in self._actions for flag in action.option_strings]
        flag_by_spelling = {flag.replace("-", "_"): flag for flag in flags}
        words = []
        for word in sys.argv[1:] if args is None else args:
            flag, equals, value = word.partition("=")
            if flag.startswith("--"):
                flag = flag_by_spelling.get(flag.replace("-", "_"), flag)
            words.append(flag + equals + value)
        parsed, unknown = self.parse_known_args(words, namespace)
        if unknown:
            unknown_flags = [word.partition("=")[0] for word in unknown if word.startswith("--")]
            messages = [f"{flag}: unknown flag{did_you_mean(flag, flags)}" for flag in unknown_flags]
            self.error("; ".join(messages) or f"{unknown[0]!r} is not expected here")
        return parsed

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def add_config_flags(parser: Parser) -> None:
    """Add one flag per key of the schema, `--section.key VALUE`, with its meaning and default in the help."""
    # The usage line shows one placeholder instead of more than sixty flags.
    parser.usage = f"{parser.format_usage().removeprefix('usage: ').rstrip()} [--SECTION.KEY VALUE ...]"
    groups: dict[str, Any] = {"": parser}
    for flag in config_flags():
        section = flag.key.rpartition(".")[0]
        if section not in groups:
            groups[section] = parser.add_argument_group(section)
        groups[section].add_argument(
            f"--{flag.key}",
            # The values remain text here. The schema converts and checks them like the values of a file.
            nargs=flag.num_values,
            metavar=flag.metavar,
            default=argparse.SUPPRESS,
            help=flag.meaning.replace("%", "%%"),
        )


def config_overrides(args: argparse.Namespace) -> dict[str, Any]:
    """The values of the flags that are keys of the schema, as text; `none` becomes None if the key may be None."""
    flag_by_key = {flag.key: flag for flag in config_flags()}
    values = {key: value for key, value in vars(args).items() if key in flag_by_key}
    return {
        key: None if flag_by_key[key].may_be_none and value in ("none", "null") else value
        for key, value in values.items()
    }


def _terminate(signum, _frame) -> NoReturn:
    raise SystemExit(128 + signum)


def run(main: Callable[[], None]) -> NoReturn:
    """Call main, then exit with a status.

    0: success; 1: internal error; 2: an error that the user can fix; 129, 130 and 143: stopped by SIGHUP, SIGINT and
    SIGTERM. Child processes of multiprocessing are killed before the exit. A closed pipe on stdout or stderr does not
    change the status.
    """
    use_utf8()
    make_streams_safe()
    raise_file_limit()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        # nohup starts a program with SIGHUP ignored, and the signal must stay ignored.
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _terminate)
    # Shells start background jobs with SIGINT ignored, but a script must save and exit on SIGINT in the background too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = _status_of(main)
    finally:
        kill_child_processes()
        sys.stdout.flush()
    sys.exit(status)


def _command() -> list[str]:
    """The command that the user typed, as words. For `maskfold NAME`, sys.argv[0] contains the first two words."""
    program, *words = sys.argv
    return ["python", program, *words] if program.endswith(".py") else [*program.rsplit(" ", 1), *words]


def _status_of(main: Callable[[], None]) -> int | str | None:
    """Call main and print the message of an error. Return the exit status; internal errors propagate."""
    # Under torchrun every process raises the same UserError, so only rank 0 prints it. A ResourceError can occur in one
    # process alone, so each process prints its own.
    is_rank_zero = "LOCAL_RANK" not in os.environ or os.environ.get("RANK", "0") == "0"
    try:
        main()
    except UserError as fault:
        if is_rank_zero or isinstance(fault, ResourceError):
            print(f"error: {fault}", file=sys.stderr)
        return 2
    except TimeIsUp:
        if is_rank_zero:
            print(f"the time is up and everything is saved; resume with: {shlex.join(_command())}")
        return 0
    except SystemExit as end:
        if end.code in _STOPPED:
            print(f"{_STOPPED[end.code]}; {_RERUN}", file=sys.stderr)
        return end.code
    except KeyboardInterrupt:
        print(f"interrupted; {_RERUN}", file=sys.stderr)
        return INTERRUPTED
    except OSError as fault:
        if fault.errno in (errno.EMFILE, errno.ENFILE):
            print(f"error: {too_many_files_error()}", file=sys.stderr)
        # An OSError without a file name is an internal error, unless its errno is in CANNOT_WRITE.
        elif fault.errno not in CANNOT_WRITE and fault.filename is None:
            raise
        else:
            where = f"{fault.filename}: " if fault.filename else ""
            cause = fault.strerror if fault.errno is None else os.strerror(fault.errno)
            print(f"error: {where}{cause}; fix the cause, or choose another path", file=sys.stderr)
        return 2
    return 0
