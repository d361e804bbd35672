"""train.py --seeds: one run per seed, which resume together; evaluate.py and submit.py on them."""

import os
import signal
from pathlib import Path

import pytest
from conftest import refused, tiny_args
from support import done, line_with, same_run, start, wait_for

from maskfold.fileio import read_json
from maskfold.runs.run_folder import RunFolder
from maskfold.training.fold_trainer import FoldTrainer

ONE, OTHER = Path("runs/demo-s42"), Path("runs/demo-s7")


def test_repeats_resume_and_are_evaluated_and_submitted_together(script, synthetic, trained, monkeypatch):
    args = [*tiny_args(synthetic, "--data.prepared", trained.prepared), "--seeds", 42, 7]
    before = FoldTrainer.current_lr_factor
    with monkeypatch.context() as patch:

        def interrupt(self, step):
            if self.job.context.run.name == OTHER.name and (len(self.history), step) == (1, 2):
                os.kill(os.getpid(), signal.SIGINT)
            return before(self, step)

        patch.setattr(FoldTrainer, "current_lr_factor", interrupt)
        stopped = script("train", *args)
    assert stopped.code == 130, stopped.err
    assert "demo-s42: out-of-fold macro F1" in stopped.out
    assert (OTHER / "fold0" / "state" / "last.pt").exists()
    finished = (ONE / "fold0" / "model.safetensors").stat().st_mtime_ns

    again = script("train", *args)
    assert again.code == 0, again.err
    assert "fold0: already finished" in again.err.split("run 2 of 2: demo-s7")[0]
    assert "resumes after epoch 1 and 3 more updates" in again.err
    assert (ONE / "fold0" / "model.safetensors").stat().st_mtime_ns == finished
    same_run(trained.run.folder, ONE)
    assert script("train", *tiny_args(synthetic, "--seed", 7, "--name", "alone")).code == 0
    same_run(Path("runs/alone"), OTHER)
    assert [RunFolder(run).config.seed for run in (ONE, OTHER)] == [42, 7]

    line = line_with(again.out, "2 repeats:")
    evaluated = script("evaluate", ONE.name, OTHER.name)
    assert evaluated.code == 0, evaluated.err
    assert line == line_with(evaluated.out, "2 repeats:")
    submitted = script("submit", ONE, OTHER, "--out", "joined.csv")
    assert submitted.code == 0, submitted.err
    members = read_json(Path("joined.json"), "")["members"]
    assert [Path(member["run"]).name for member in members] == [ONE.name, OTHER.name]
    assert "(estimated from demo-s42, demo-s7)" in submitted.out

    # Found before a run is trained, although the first run of this command is a new one.
    changed = script("train", *tiny_args(synthetic, "--seeds", 8, 7, "--optim.lr", 0.5))
    refused(changed, "demo-s7 was started with another configuration", "optim.lr")
    assert not Path("runs/demo-s8").exists()


def test_the_time_of_stop_after_is_for_the_whole_command(script, synthetic):
    """A run that follows a trained one does not begin after the deadline; one that follows a skipped run makes an update."""
    args = [*tiny_args(synthetic), "--seeds", 42, 7, "--folds", 0, "--stop-after", "0.01s"]
    # One update. A command ends after the update, the next one after validation, and the third one finishes the run.
    args += ["--optim.epochs", 1, "--optim.batch_size", 42]
    for _ in range(3):
        assert not (ONE / "summary.json").exists()
        stopped = script("train", *args)
        assert stopped.code == 0, stopped.err
        assert "the time is up" in stopped.out
        assert not list(OTHER.rglob("last.pt"))
    assert (ONE / "summary.json").exists()
    assert script("train", *args).code == 0
    assert (OTHER / "fold0" / "state" / "last.pt").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--seeds", 1, 2, "--seed", 3), ("--seed has no effect with --seeds",)),
        (("--seeds", 1, 2, "--out", "x"), ("--out", "--name")),
        (("--seeds", 1, 2, 1), ("--seeds", "1 is given twice")),
        (("--seeds", 1, -2), ("--seeds -2", "from 0 to")),
        (("--seeds", 2**32), ("--seeds 4294967296", "from 0 to")),
        (("--seeds", "x"), ("--seeds", "'x'")),
        (("--seeds", 1, "--name", "a/b"), ("a/b-s1", "--name")),
    ],
)
def test_wrong_seeds_are_errors_before_anything_is_written(script, synthetic, flags, words):
    refused(script("train", *tiny_args(synthetic), *flags), *words)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("how", "status"),
    [
        pytest.param("SIGKILL", -signal.SIGKILL, marks=pytest.mark.slow),
        # A single run is tested with SIGINT too.
        pytest.param("SIGINT", 130, marks=pytest.mark.long),
    ],
)
def test_a_kill_in_the_second_of_three_runs(synthetic, tmp_path, how, status):
    seeds = ("--seeds", 1, 2, 3)
    done(start(synthetic, tmp_path / "unbroken", *seeds))
    process = start(synthetic, tmp_path / "killed", *seeds)
    runs = tmp_path / "killed" / "runs"
    wait_for(runs / "demo-s2" / "fold0" / "state" / "last.pt", process)
    process.send_signal(getattr(signal, how))
    _, err = process.communicate()
    assert process.returncode == status, err
    assert not (runs / "demo-s3").exists()
    done(start(synthetic, tmp_path / "killed", *seeds))
    for name in ("demo-s1", "demo-s2", "demo-s3"):
        same_run(tmp_path / "unbroken" / "runs" / name, runs / name)
