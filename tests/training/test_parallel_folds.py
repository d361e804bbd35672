"""Folds trained in parallel processes give the same run, the same exit status and the same messages."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import refused, tiny_args
from support import PATIENCE, done, same_run, start, until, wait_for

from maskfold.config.experiment import Config
from maskfold.errors import ResourceError, UserError
from maskfold.runs.run_folder import RunFolder
from maskfold.training import parallel_folds
from maskfold.training.fold_job import Part, TrainContext
from maskfold.training.stop_request import StopRequest


@pytest.mark.slow
def test_parallel_folds_equal_sequential_folds(script, synthetic):
    for name, how in (("serial", ()), ("parallel", ("--parallel-folds", 2))):
        ended = script("train", *tiny_args(synthetic, "--name", name, *how))
        assert ended.code == 0, ended.err
    same_run(Path("runs/serial"), Path("runs/parallel"))
    again = script("train", *tiny_args(synthetic, "--name", "parallel", "--parallel-folds", 2))
    assert again.code == 0
    assert again.err.count("already finished") == 2


@pytest.mark.slow
def test_the_error_of_a_fold_is_printed_once(script, synthetic):
    ended = script("train", *tiny_args(synthetic, "--optim.lr", 1e30, "--parallel-folds", 2, "--name", "d"))
    refused(ended, "optim.lr", "NaN or infinity")
    refused(script("train", *tiny_args(synthetic, "--parallel-folds", 0)), "--parallel-folds")


def test_torchrun_and_parallel_folds_exclude_each_other(script, synthetic, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(script("train", *tiny_args(synthetic, "--parallel-folds", 2)), "--parallel-folds", "torchrun")


@pytest.mark.parametrize(
    "signum",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        # SIGTERM has the handler of SIGINT, and tests of single folds cover resuming after SIGKILL.
        pytest.param(signal.SIGKILL, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),
    ],
)
def test_an_interrupted_parallel_run_resumes(synthetic, tmp_path, signum):
    """A signal to the parent ends its children too, SIGKILL included; the next command resumes."""
    long = ("--optim.epochs", 12, "--run.checkpoint_updates", 1)
    done(start(synthetic, tmp_path / "whole", *long))
    home = tmp_path / "cut"
    process = start(synthetic, home, *long, "--parallel-folds", 2)
    for fold in (0, 1):
        wait_for(home / "runs" / "demo" / f"fold{fold}" / "state" / "last.pt", process)
    process.send_signal(signum)
    process.communicate()
    assert process.returncode in (128 + signum, -signum)
    err = done(start(synthetic, home, *long, "--parallel-folds", 2))
    assert "resumes after" in err
    same_run(tmp_path / "whole" / "runs" / "demo", home / "runs" / "demo")


@pytest.mark.slow
def test_a_killed_fold_is_reported_and_the_other_saves(synthetic, tmp_path):
    long = ("--optim.epochs", 200, "--run.checkpoint_updates", 1, "--parallel-folds", 2)
    process = start(synthetic, tmp_path, *long)
    for fold in (0, 1):
        wait_for(tmp_path / "runs" / "demo" / f"fold{fold}" / "state" / "last.pt", process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    trainers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(int(trainers[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, err
    assert "was killed by signal 9" in err
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in trainers), "the end of the other fold")


def fail_in_place_of_training(job, slot, errors):
    """Run in a child process: fold1 fails at once, with more text than a pipe holds; fold0 when it is stopped."""

    def stop(*_):
        raise UserError("fold0 was stopped")

    with parallel_folds._exit_status(errors):
        if job.part.name == "fold1":
            raise ResourceError("fold1 has no memory" + "." * 300_000)
        signal.signal(signal.SIGTERM, stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        time.sleep(PATIENCE)


@pytest.mark.slow
def test_the_error_of_the_fold_that_failed_first_is_raised_with_its_type(monkeypatch, tmp_path):
    monkeypatch.setattr(parallel_folds, "_run_child", fail_in_place_of_training)
    parts = [Part(name, np.arange(2), np.arange(1)) for name in ("fold0", "fold1")]
    context = TrainContext(RunFolder(tmp_path), Config(), None, None, StopRequest())
    with pytest.raises(ResourceError, match=r"fold1 has no memory\.+$") as caught:
        parallel_folds.fit_parallel(context, parts, {part.name: 1 for part in parts}, 2)
    assert len(str(caught.value)) > 300_000
