import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

CHILD = """
import multiprocessing
import multiprocessing.util
from multiprocessing.connection import Listener

from maskfold.machine_limits import stop_signals_blocked


def listen():
    Listener().close()


if __name__ == "__main__":
    with stop_signals_blocked():
        child = multiprocessing.Process(target=listen)
        child.start()
    child.join()
    print(multiprocessing.util.get_temp_dir())
    raise SystemExit(child.exitcode)
"""


@pytest.mark.parametrize("folder", ["short", "long" * 25])
def test_child_processes_can_open_sockets(folder):
    """A socket's path has at most 108 bytes; TMPDIR may be longer, as on some clusters."""
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        temporary = Path(parent) / folder
        temporary.mkdir()
        environ = os.environ | {"TMPDIR": str(temporary)}
        done = subprocess.run([sys.executable, "-c", CHILD], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        used = Path(done.stdout.strip())
        assert (used.parent == temporary) == (folder == "short")
        assert not used.exists()
        assert not list(temporary.iterdir())
