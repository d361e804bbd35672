"""What the scripts share: flags made from the schema, one way to end."""

import argparse
import errno
import os
import shlex
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn, get_args

from maskfold.config.experiment import Config, Section
from maskfold.errors import ResourceError, TimeIsUp, UserError, nearest
from maskfold.machine_limits import end_children, raise_file_limit, too_many_files
from maskfold.safe_streams import make_streams_safe
from maskfold.utf8_mode import use_utf8

INTERRUPTED = 128 + signal.SIGINT
_STOPPED = {128 + signal.SIGTERM: "terminated", 128 + signal.SIGHUP: "the terminal has gone"}
_RESUME = "rerun the command to resume from the last checkpoint"
# What the user's machine refuses: an error to fix rather than an internal one.
_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


class Parser(argparse.ArgumentParser):
    """argparse with errors as UserError, the nearest flag named, and - and _ alike in flags."""

    def __init__(self, **kwargs: Any):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def parse_args(self, args=None, namespace=None):
        known = [flag for action in self._actions for flag in action.option_strings]
        spelled = {flag.replace("-", "_"): flag for flag in known}
        words = []
        for word in sys.argv[1:] if args is None else args:
            flag, equals, value = word.partition("=")
            known_as = spelled.get(flag.replace("-", "_"), flag) if flag.startswith("--") else flag
            words.append(known_as + equals + value)
        parsed, unknown = self.parse_known_args(words, namespace)
        if unknown:
            flags = [word.partition("=")[0] for word in unknown if word.startswith("--")]
            said = [f"{flag}: unknown flag{nearest(flag, known)}" for flag in flags]
            self.error("; ".join(said) or f"{unknown[0]!r} is not expected here")
        return parsed

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def add_config_flags(parser: Parser) -> None:
    """One flag a key of the schema, `--section.key VALUE`, with its default and meaning in the help."""
    for name, field in Config.model_fields.items():
        if isinstance(field.default, Section):
            group = parser.add_argument_group(name)
            for key, inner in type(field.default).model_fields.items():
                _add_flag(group, f"{name}.{key}", inner)
        else:
            _add_flag(parser, name, field)


def _add_flag(group, dotted: str, field) -> None:
    literals = [value for value in get_args(field.annotation) if isinstance(value, str)]
    several, open_ended = isinstance(field.default, tuple), Ellipsis in get_args(field.annotation)
    default = (" ".join(map(str, field.default)) or None) if several else field.default
    group.add_argument(
        f"--{dotted}",
        # Values stay text: the schema alone reads them, as it reads a file's.
        nargs="+" if open_ended else len(field.default) if several else None,
        metavar="{" + ",".join(literals) + "}" if literals else ("H", "W") if several and not open_ended else "VALUE",
        default=argparse.SUPPRESS,
        help=f"{field.description} (default: {'none' if default is None else default})".replace("%", "%%"),
    )


def config_flags(args: argparse.Namespace) -> dict[str, Any]:
    """The schema's keys among the parsed flags, as given; `none` empties a key that may be empty."""
    flags = {key: value for key, value in vars(args).items() if "." in key or key in Config.model_fields}
    for key, value in flags.items():
        section, _, name = key.rpartition(".")
        fields = type(Config.model_fields[section].default).model_fields if section else Config.model_fields
        if value in ("none", "null") and type(None) in get_args(fields[name].annotation):
            flags[key] = None
    return flags


def _terminate(signum, _frame) -> NoReturn:
    raise SystemExit(128 + signum)


def run(main: Callable[[], None]) -> NoReturn:
    """Call main and exit: 0 done, 2 the user can fix it, 130/143/129 by SIGINT/SIGTERM/SIGHUP, 1 internal error.

    No process that main started outlives it, and a reader of stdout or stderr that has gone changes no status.
    """
    use_utf8()
    make_streams_safe()
    raise_file_limit()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        # nohup has SIGHUP ignored.
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _terminate)
    # A shell's background jobs start with SIGINT ignored; to save and end on it is our contract everywhere.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = _status_of(main)
    finally:
        end_children()
        sys.stdout.flush()
    sys.exit(status)


def _command() -> list[str]:
    """What the user typed, as words; the console command's program and verb are one in sys.argv."""
    program, *words = sys.argv
    return ["python", program, *words] if program.endswith(".py") else [*program.rsplit(" ", 1), *words]


def _status_of(main: Callable[[], None]) -> int | str | None:
    """The exit status of main as sys.exit takes it, its message printed; an internal error is raised on."""
    # Under torchrun every process meets the same end and one prints it; a machine's resources fail one alone.
    lead = "LOCAL_RANK" not in os.environ or os.environ.get("RANK", "0") == "0"
    try:
        main()
    except UserError as fault:
        if lead or isinstance(fault, ResourceError):
            print(f"error: {fault}", file=sys.stderr)
        return 2
    except TimeIsUp:
        if lead:
            print(f"the time is up; all is saved, this resumes: {shlex.join(_command())}")
        return 0
    except SystemExit as end:
        if end.code in _STOPPED:
            print(f"{_STOPPED[end.code]}; {_RESUME}", file=sys.stderr)
        return end.code
    except KeyboardInterrupt:
        print(f"interrupted; {_RESUME}", file=sys.stderr)
        return INTERRUPTED
    except OSError as fault:
        if fault.errno in (errno.EMFILE, errno.ENFILE):
            print(f"error: {too_many_files()}", file=sys.stderr)
        elif fault.errno not in _REFUSED and fault.filename is None:
            raise
        else:
            where = f" {fault.filename}" if fault.filename else ""
            cause = fault.strerror if fault.errno is None else os.strerror(fault.errno)
            print(f"error:{where} {cause}; fix that or choose another place", file=sys.stderr)
        return 2
    return 0
