"""UTF-8 for file names and output, whatever the locale."""

import io
import os
import sys


def use_utf8() -> None:
    """Restart the program in UTF-8 mode if the locale is not UTF-8; escape characters that a stream cannot encode.

    In an ASCII locale a Korean file name could not be written to config.yaml. Call this function at the start of a
    script, and nowhere else.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal cannot show must not end a run.
            stream.reconfigure(errors="backslashreplace")
