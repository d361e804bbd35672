"""run.compile raises a UserError where torch.compile does not work, before anything is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, refused, tiny_args

from maskfold.models import device

CHECK = """
import torch
from maskfold.config.experiment import Run
from maskfold.models.device import check_compiler
check_compiler(Run(compile=True), torch.device("cpu"))
"""


@pytest.fixture(autouse=True)
def clear_cached_check():
    device._compile_error.cache_clear()
    yield
    device._compile_error.cache_clear()


def call(command, home, **environ):
    environ = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(home / "kernels"), **environ}
    return subprocess.run(list(map(str, command)), cwd=home, env=environ, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [{"PATH": "/nonexistent"}, {"CXX": "false"}])
def test_a_missing_compiler_is_one_error_and_nothing_is_written(synthetic, tmp_path, broken):
    args = tiny_args(synthetic, "--name", "c", "--data.prepared", tmp_path / "p", "--run.compile", "true")
    runs = tmp_path / "runs"
    done = call([sys.executable, ROOT / "scripts" / "train.py", *args], tmp_path, SM_MODEL_DIR=str(runs), **broken)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    assert "run.compile" in done.stderr
    assert "--run.compile false" in done.stderr
    assert not (tmp_path / "p").exists()
    assert not runs.exists()


@pytest.mark.long  # Two compilations take a minute.
def test_cached_kernels_do_not_hide_a_missing_compiler(tmp_path):
    done = call([sys.executable, "-c", CHECK], tmp_path)
    assert done.returncode == 0, done.stderr
    done = call([sys.executable, "-c", CHECK], tmp_path, CXX="false")
    assert "UserError: run.compile" in done.stderr


def broken_compile(_function):
    raise RuntimeError("no compiler\nsecond line")


def test_a_start_without_a_compiler_writes_nothing(script, synthetic, monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "compile", broken_compile)
    args = tiny_args(synthetic, "--name", "new", "--run.compile", "true")
    refused(script("train", *args), "run.compile", "(no compiler)", "--run.compile false")
    assert not (tmp_path / "runs").exists()


def test_resuming_needs_a_compiler_but_a_finished_run_does_not(script, synthetic, monkeypatch):
    args = tiny_args(synthetic, "--name", "c", "--folds", 0, "--optim.epochs", 1, "--run.compile", "true")
    monkeypatch.setattr(torch, "compile", lambda function: function)
    done = script("train", *args)
    assert done.code == 0, done.err
    device._compile_error.cache_clear()
    monkeypatch.setattr(torch, "compile", broken_compile)
    done = script("train", *args)
    assert done.code == 0, done.err
    Path("runs/c/fold0/oof.npz").unlink()
    refused(script("train", *args), "run.compile", "no compiler")


def test_nothing_is_compiled_without_run_compile(monkeypatch):
    monkeypatch.setattr(torch, "compile", broken_compile)
    device.check_compiler(device.Run(), torch.device("cpu"))
