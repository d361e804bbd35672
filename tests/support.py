"""Helpers to start train.py in its own process, to wait for it and to compare runs."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, tiny_args

from maskfold.probabilities import load_predictions

# Seconds after which a test gives up: long on a slow, busy machine too, and reached only by what would never end.
PATIENCE = 240

TIMING = ("seconds", "images_per_second")
TRAIN = ROOT / "scripts" / "train.py"


def metrics_of(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def same_run(a: Path, b: Path, parts=("fold0", "fold1")) -> None:
    for part in parts:
        assert metrics_of(a / part) == metrics_of(b / part)
        assert (a / part / "model.safetensors").read_bytes() == (b / part / "model.safetensors").read_bytes()
    one, other = load_predictions(a / "oof.npz"), load_predictions(b / "oof.npz")
    assert one.image_id.tolist() == other.image_id.tolist()
    assert np.array_equal(one.probs, other.probs)


def start(raw, home, *more, launcher=(sys.executable,), **how) -> subprocess.Popen:
    home.mkdir(exist_ok=True)
    command = [*launcher, TRAIN, *tiny_args(raw, "--data.prepared", home / "p", *more)]
    return subprocess.Popen(
        list(map(str, command)), cwd=home, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **how
    )


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition; fail after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"timed out waiting for {what}"
        time.sleep(0.005)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Wait for a file that a process writes; fail where the process ends first."""
    until(lambda: path.exists() or process.poll() is not None, str(path))
    assert path.exists(), process.stderr.read()


def line_with(text: str, *words: str) -> str:
    """The only line that holds all of the words."""
    [line] = [line for line in text.splitlines() if all(word in line for word in words)]
    return line


def numbers_in(text: str, word: str) -> list[int]:
    """The whole numbers of the first line that holds a word."""
    line = next(line for line in text.splitlines() if word in line)
    return [int(number) for number in re.findall(r"\d+", line)]


def done(process) -> str:
    _, err = process.communicate()
    assert process.returncode == 0, err
    return err


def read_only_mount(folder: Path) -> list[str]:
    """The start of a command that sees a folder on a read-only disk; skip the test where nothing can be mounted."""
    code = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        command = [*unshare, "sh", "-c", code, str(folder)]
        if shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode:
            return command
    pytest.skip("cannot mount a folder read-only here")
