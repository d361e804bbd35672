"""run.compile is refused where nothing compiles, before anything is written."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT, tiny_args

pytestmark = pytest.mark.slow


def train(drawn, home, *more, **environ):
    command = [sys.executable, ROOT / "scripts" / "train.py"]
    command += tiny_args(drawn, "--name", "c", "--folds", 0, "--optim.epochs", 1, "--data.prepared", home / "p", *more)
    environ = {**os.environ, "SM_MODEL_DIR": str(home / "runs"), **environ}
    return subprocess.run(list(map(str, command)), cwd=home, env=environ, capture_output=True, text=True)


@pytest.mark.parametrize("broken", [{"PATH": "/nonexistent"}, {"CXX": "false"}])
def test_no_compiler_is_one_error_and_nothing_is_written(drawn, tmp_path, broken):
    done = train(drawn, tmp_path, "--run.compile", "true", **broken)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    assert "run.compile" in done.stderr
    assert "--run.compile false" in done.stderr
    assert not list(tmp_path.iterdir())


def test_kernels_kept_from_an_earlier_run_do_not_hide_that_the_compiler_is_gone(drawn, tmp_path):
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "kernels")}
    done = train(drawn, tmp_path, "--run.compile", "true", **cache)
    assert done.returncode == 0, done.stderr
    done = train(drawn, tmp_path, "--run.compile", "true", "--fresh", **cache, CXX="false")
    assert done.returncode == 2, done.stderr
    # The finished run is as it was, and needs no compiler.
    assert (tmp_path / "runs" / "c" / "fold0" / "oof.npz").exists()
    assert train(drawn, tmp_path, "--run.compile", "true", **cache, CXX="false").returncode == 0
    (tmp_path / "runs" / "c" / "fold0" / "oof.npz").unlink()
    done = train(drawn, tmp_path, "--run.compile", "true", **cache, CXX="false")
    assert done.returncode == 2, done.stderr
    assert "run.compile" in done.stderr
