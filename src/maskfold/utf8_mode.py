"""Text is UTF-8 whatever the locale: names of files on the command line, and what is printed."""

import io
import os
import sys


def use_utf8() -> None:
    """Start the program again in Python's UTF-8 mode where the locale is another; print what a stream cannot encode.

    In an ASCII locale a Korean file name would have no text that can be written to config.yaml. For scripts alone, as
    the first thing that they do.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a name must not end a run.
            stream.reconfigure(errors="backslashreplace")
