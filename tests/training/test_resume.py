"""Runs that were killed, stopped or out of disk space resume to the same result; several processes train as one."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_args
from safetensors.torch import load_file
from support import TRAIN, done, metrics_of, same_run, start, until, wait_for

from maskfold.probabilities import load_predictions


@pytest.mark.parametrize(
    ("how", "status"),
    [
        pytest.param("SIGTERM", 143, marks=pytest.mark.slow),
        pytest.param("SIGKILL", -signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("SIGINT", 130, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_resumes_to_the_same_result(script, synthetic, trained, tmp_path, how, status):
    process = start(synthetic, tmp_path)
    wait_for(tmp_path / "runs" / "demo" / "fold0" / "state" / "last.pt", process)
    process.send_signal(getattr(signal, how))
    _, err = process.communicate()
    assert process.returncode == status, err
    assert "Traceback" not in err
    again = script("train", *tiny_args(synthetic, "--data.prepared", tmp_path / "p"))
    assert again.code == 0, again.err
    assert "resumes after epoch" in again.err or "already finished" in again.err
    same_run(tmp_path / "runs" / "demo", trained.run.folder)


def _options() -> list[object]:
    """Options with as much state as possible: EMA, dropout, batch norm, best epoch, plateau, saves within an epoch."""
    return [
        *("--model.backbone", "test_resnet", "--model.drop_rate", 0.3, "--optim.ema_decay", 0.8, "--optim.epochs", 4),
        *("--optim.batch_size", 4, "--run.keep", "best", "--optim.schedule", "plateau", "--optim.clip_norm", 1.0),
        *("--model.frozen_epochs", 1, "--data.augment", "strong", "--run.checkpoint_updates", 3),
    ]


@pytest.mark.parametrize(
    ("how", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_stop_within_an_epoch_saves_that_update(script, synthetic, tmp_path, monkeypatch, how, status):
    """After a signal at a known update the run resumes with the next one, and ends like an unbroken run."""
    from maskfold.training import fold_trainer as part

    args = tiny_args(synthetic, "--data.prepared", tmp_path / "p", "--folds", 0, *_options())
    assert script("train", *args, "--name", "unbroken").code == 0
    before = part.FoldTrainer.current_lr_factor
    with monkeypatch.context() as patch:

        def send_signal(self, step):
            if (len(self.history), step) == (1, 4):
                os.kill(os.getpid(), how)
            return before(self, step)

        patch.setattr(part.FoldTrainer, "current_lr_factor", send_signal)
        stopped = script("train", *args, "--name", "stopped")
        assert stopped.code == status, stopped.err
    state = torch.load("runs/stopped/fold0/state/last.pt", weights_only=True)
    assert (len(state["history"]), state["step"]) == (1, 5)
    again = script("train", *args, "--name", "stopped")
    assert "resumes after epoch 1 and 5 more updates" in again.err
    same_run(Path("runs/unbroken"), Path("runs/stopped"), ["fold0"])


def _wait_for_change(folder: Path, process) -> None:
    """Wait until the process has written a file in the folder, or has ended."""
    before = _modification_times(folder)
    until(lambda: process.poll() is not None or _modification_times(folder) != before, f"a change in {folder}")


def _modification_times(folder: Path) -> dict[Path, int]:
    """Modification time of each file; files that are renamed meanwhile are left out."""
    times = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                times[path] = path.stat().st_mtime_ns
    return times


@pytest.mark.parametrize(
    "more",
    [
        pytest.param("everything", marks=pytest.mark.slow),
        # The same kills with fewer options.
        pytest.param("epochs", marks=pytest.mark.long),
    ],
)
def test_killed_at_ten_random_moments(synthetic, tmp_path, more):
    """SIGKILL at random moments while training, saving, between epochs and folds; the last start runs to the end."""
    options = _options() if more == "everything" else ["--optim.epochs", 6, "--optim.batch_size", 4]
    done(start(synthetic, tmp_path / "unbroken", *options))
    rng = np.random.default_rng(0 if more == "epochs" else 1)
    run = tmp_path / "killed" / "runs" / "demo"
    starts = kills = 0
    while kills < 10:
        starts += 1
        assert starts < 60
        process = start(synthetic, tmp_path / "killed", *options)
        if run.exists():
            # Wait until it writes a file: each start must get further than its imports.
            _wait_for_change(run, process)
        else:
            wait_for(run / "config.yaml", process)
        time.sleep(float(rng.uniform(0, 0.35)))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate()
        if (run / "summary.json").exists():
            # The run finished between two kills; start another.
            same_run(tmp_path / "unbroken" / "runs" / "demo", run)
            shutil.rmtree(run)
    done(start(synthetic, tmp_path / "killed", *options))
    same_run(tmp_path / "unbroken" / "runs" / "demo", run)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a tmpfs is mounted by root only")
def test_a_full_disk_is_an_error_and_the_last_checkpoint_loads(synthetic, tmp_path):
    disk = tmp_path / "small"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        environ = os.environ | {"SM_MODEL_DIR": str(disk)}
        args = [
            "--data.prepared",
            tmp_path / "p",
            "--model.backbone",
            "test_convnext",
            "--optim.epochs",
            3,
            "--folds",
            0,
        ]
        command = list(map(str, [sys.executable, TRAIN, *tiny_args(synthetic, *args)]))
        ballast = disk / "ballast"
        first = subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True)
        wait_for(disk / "demo" / "fold0" / "state" / "last.pt", first)
        free = shutil.disk_usage(disk).free
        ballast.write_bytes(b"0" * max(0, free - 200_000))
        _, err = first.communicate()
        assert first.returncode == 2, err
        assert "No space left on device" in err
        assert "Traceback" not in err
        state = torch.load(disk / "demo" / "fold0" / "state" / "last.pt", weights_only=True)
        assert state["history"]
        ballast.unlink()
        assert subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True).returncode == 0
    finally:
        subprocess.run(["umount", disk], check=True)


def torchrun(*words: object) -> tuple:
    return (sys.executable, "-m", "torch.distributed.run", *words)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def near(a: Path, b: Path) -> None:
    """Assert that two runs differ only by rounding: the same photos in order, weights within 1e-5."""
    one, other = load_predictions(a / "oof.npz", True), load_predictions(b / "oof.npz", True)
    assert one.image_id.tolist() == other.image_id.tolist()
    assert one.fold.tolist() == other.fold.tolist()
    np.testing.assert_allclose(one.probs, other.probs, atol=1e-3)
    for part in ("fold0", "fold1"):
        x, y = (load_file(folder / part / "model.safetensors") for folder in (a, b))
        for name in x:
            torch.testing.assert_close(x[name], y[name], atol=1e-5, rtol=0)
        for left, right in zip(metrics_of(a / part), metrics_of(b / part), strict=True):
            assert left["train_loss"] == pytest.approx(right["train_loss"], rel=1e-4)


# Two epochs of 42 photos in five batches; the last has two photos, one for each of two processes.
ACCUMULATED = (
    "--optim.batch_size",
    10,
    "--optim.accum_steps",
    2,
    "--loss.class_weights",
    "inverse",
    "--run.predict_precision",
    "fp32",
    "--optim.lr",
    0.001,
)


VARIANTS = {
    "plain": (),
    "mixed": ("--mix.name", "half_cutmix", "--mix.partner", "old", "--mix.clean", 0.3),
    "soft F1": ("--loss.plus", "soft_f1", "--mix.name", "mixup", "--run.keep", "mean"),
}


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param("plain", marks=pytest.mark.slow),
        # The same two processes with mixed photos and other losses.
        *(pytest.param(variant, marks=pytest.mark.long) for variant in ("mixed", "soft F1")),
    ],
)
def test_two_processes_train_as_one(synthetic, tmp_path, variant):
    """Photos are mixed before the batch is split, and soft F1 is computed over the whole batch."""
    options = (*ACCUMULATED, *VARIANTS[variant])
    done(start(synthetic, tmp_path / "one", *options))
    done(start(synthetic, tmp_path / "two", *options, launcher=torchrun("--nproc-per-node", 2)))
    near(tmp_path / "one" / "runs" / "demo", tmp_path / "two" / "runs" / "demo")


@pytest.mark.long
def test_two_processes_pseudo_label_as_one(synthetic, tmp_path):
    """Each process labels its share of the eval photos; labels and run equal those of one process."""
    for place, launcher in (("one", ()), ("two", torchrun("--nproc-per-node", 2))):
        done(start(synthetic, tmp_path / place, *ACCUMULATED, "--name", "first"))
        options = ("--pseudo.runs", "first", "--pseudo.threshold", 0.08)
        done(start(synthetic, tmp_path / place, *ACCUMULATED, *options, **({"launcher": launcher} if launcher else {})))
    runs = [tmp_path / place / "runs" / "demo" for place in ("one", "two")]
    for part in ("fold0", "fold1"):
        lists = [(run / part / "pseudo.csv").read_text().splitlines() for run in runs]
        assert [line.split(",")[:2] for line in lists[0]] == [line.split(",")[:2] for line in lists[1]]
        assert len(lists[0]) > 1
    near(*runs)


@pytest.mark.long  # A rare case of two processes that train as one.
def test_a_batch_smaller_than_the_processes(synthetic, tmp_path):
    """42 photos in batches of 41: the last batch has one photo, and the second process none.

    With SGD, because AdamW would amplify the rounding of the very small gradient of one photo.
    """
    options = ("--optim.batch_size", 41, "--run.predict_precision", "fp32", "--optim.name", "sgd", "--optim.lr", 0.1)
    done(start(synthetic, tmp_path / "one", *options))
    done(start(synthetic, tmp_path / "two", *options, launcher=torchrun("--nproc-per-node", 2)))
    near(tmp_path / "one" / "runs" / "demo", tmp_path / "two" / "runs" / "demo")


@pytest.mark.slow
def test_two_stopped_processes_resume(synthetic, tmp_path):
    """Stopped within an epoch by SIGTERM to torchrun, then resumed."""
    more = ("--optim.epochs", 12, "--folds", 0, "--run.checkpoint_updates", 2, *ACCUMULATED)
    done(start(synthetic, tmp_path / "whole", *more, launcher=torchrun("--nproc-per-node", 2)))
    two = torchrun("--nproc-per-node", 2)
    process = start(synthetic, tmp_path / "stopped", *more, launcher=two)
    wait_for(tmp_path / "stopped" / "runs" / "demo" / "fold0" / "state" / "last.pt", process)
    process.terminate()
    process.communicate()
    assert process.returncode != 0
    again = done(start(synthetic, tmp_path / "stopped", *more, launcher=two))
    assert "resumes after epoch" in again
    same_run(tmp_path / "whole" / "runs" / "demo", tmp_path / "stopped" / "runs" / "demo", ["fold0"])


@pytest.mark.long
def test_two_nodes_train_as_one(synthetic, tmp_path):
    done(start(synthetic, tmp_path / "one", *ACCUMULATED))
    port = free_port()
    nodes = [
        start(
            synthetic,
            tmp_path / "nodes",
            *ACCUMULATED,
            launcher=torchrun(
                *("--nnodes", 2, "--node-rank", rank, "--nproc-per-node", 1),
                *("--master-addr", "127.0.0.1", "--master-port", port),
            ),
        )
        for rank in (0, 1)
    ]
    for node in nodes:
        done(node)
    near(tmp_path / "one" / "runs" / "demo", tmp_path / "nodes" / "runs" / "demo")
