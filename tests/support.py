"""Starting train.py in a process of its own, waiting for it, and comparing runs."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from conftest import ROOT, tiny_args

from maskfold.probabilities import load_predictions

TIMING = ("seconds", "images_per_second")


TRAIN = ROOT / "scripts" / "train.py"


def metrics_from_tally(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def same_run(a: Path, b: Path, parts=("fold0", "fold1")) -> None:
    for part in parts:
        assert metrics_from_tally(a / part) == metrics_from_tally(b / part)
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


def wait_for(path: Path, process, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.005)


def done(process) -> str:
    _, err = process.communicate()
    assert process.returncode == 0, err
    return err
