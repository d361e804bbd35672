"""scripts/pipeline.py: the same results as the separate commands, resumed after kills, and nothing done twice."""

import errno
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT, refused, tiny_args
from support import same_run

from maskfold.probabilities import load_predictions

TTA = ("--tta", "none", "hflip")


def submitted(csv: Path) -> tuple[bytes, dict]:
    """The bytes of a submission, and its manifest without the time at which it was made."""
    manifest = json.loads(csv.with_suffix(".json").read_text())
    return csv.read_bytes(), {
        key: value for key, value in manifest.items() if key not in ("created", "members", "inputs")
    }


def same_results(run: Path, csv: Path, other_run: Path, other_csv: Path) -> None:
    same_run(run, other_run)
    for name in ("eval-none+hflip.npz", "oof-none+hflip.npz"):
        one, other = load_predictions(run / name), load_predictions(other_run / name)
        assert one.image_id.tolist() == other.image_id.tolist()
        assert one.probs.tobytes() == other.probs.tobytes()
    assert submitted(csv) == submitted(other_csv)


def separate_commands(script, raw: Path, home: Path) -> None:
    """Run the stages one after another, in the folder `home`."""
    shared = ("--data.prepared", home / "prepared")
    assert script("prepare", "--data", raw, "--out", home / "prepared", "--folds", 2).code == 0
    assert script("train", *tiny_args(raw, *shared, "--out", home / "tiny")).code == 0
    assert script("submit", home / "tiny", *TTA, "--out", home / "s.csv").code == 0


def pipeline_args(raw: Path, home: Path) -> list:
    words = tiny_args(raw, "--data.prepared", home / "prepared", "--name", "tiny")
    return [*words, *TTA, "--out", home / "s.csv", "--truth", raw / "answers.csv"]


def test_the_pipeline_equals_the_separate_commands_and_does_nothing_twice(script, synthetic, tmp_path):
    home = tmp_path / "separate"
    separate_commands(script, synthetic, home)
    done = script("pipeline", *pipeline_args(synthetic, tmp_path))
    assert done.code == 0, done.err
    for words in ("12 people", "tiny: out-of-fold", "submission: ", "macro F1 ", "report: "):
        assert words in done.out
    run = tmp_path / "runs" / "tiny"
    same_results(run, tmp_path / "s.csv", home / "tiny", home / "s.csv")
    files = [tmp_path / "s.csv", tmp_path / "s.json", run / "report.html", run / "oof.npz", run / "summary.json"]
    files += [tmp_path / "prepared" / name for name in ("images.csv", "dataset.json")]
    stamps = [path.stat().st_mtime_ns for path in files]
    again = script("pipeline", *pipeline_args(synthetic, tmp_path))
    assert again.code == 0, again.err
    assert again.out.count("is up to date") == 2
    assert "fold1: already finished" in again.err
    assert [path.stat().st_mtime_ns for path in files] == stamps


@pytest.mark.slow
def test_what_has_changed_is_made_again(script, run):
    """The report after an edit of the page and after a submission, which it shows; the submission after other flags."""
    assert script("report", run).code == 0
    page = run / "report.html"
    text = page.read_bytes()
    assert "is up to date" in script("report", run).out
    page.write_bytes(text.replace(b"Learning curves", b"Curves"))
    assert "is up to date" not in script("report", run).out
    assert b"Learning curves" in page.read_bytes()
    assert script("submit", run, "--out", "a.csv").code == 0
    assert "is up to date" not in script("report", run).out
    assert b"of this submission" in page.read_bytes()
    assert "is up to date" in script("submit", run, "--out", "a.csv").out
    assert "is up to date" not in script("submit", run, "--out", "a.csv", "--decision", "macro-f1").out
    assert "is up to date" not in script("submit", run, "--out", "a.csv").out
    Path("a.csv").write_text("ImageID,ans\n")
    assert "is up to date" not in script("submit", run, "--out", "a.csv").out
    Path("index.csv").unlink()
    assert "is up to date" not in script("submit", run, "--out", "a.csv").out
    assert "a" in Path("index.csv").read_text()
    (run / "eval-none.npz").unlink()
    assert "is up to date" not in script("submit", run, "--out", "a.csv").out


@pytest.mark.slow
def test_a_prepared_folder_with_corrections_is_kept(script, raw, tmp_path):
    corrections = tmp_path / "c.csv"
    person = next((raw / "train" / "images").iterdir()).name
    corrections.write_text(f"person_id,field,value,reason\n{person},age,61,test\n")
    words = ("--data", raw, "--out", tmp_path / "prepared", "--folds", 2, "--corrections", corrections)
    assert script("prepare", *words).code == 0
    before = (tmp_path / "prepared" / "images.csv").read_bytes()
    done = script("pipeline", *pipeline_args(raw, tmp_path)[:-4], "--folds", 0)
    assert done.code == 0, done.err
    assert "is kept, because" in done.out
    assert (tmp_path / "prepared" / "images.csv").read_bytes() == before


def edit_labels(raw: Path) -> None:
    path = raw / "train" / "train.csv"
    table = pd.read_csv(path, dtype=str)
    table.loc[0, "age"] = "61" if int(table.age[0]) < 60 else "20"
    table.to_csv(path, index=False)


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        (edit_labels, (), ["have changed since they were prepared", "scripts/prepare.py --data"]),
        (lambda raw: shutil.rmtree(raw / "eval"), (), ["have changed since they were prepared", "--out"]),
        (lambda raw: None, ("--data.corrections", ROOT / "configs" / "corrections.csv"), ["no corrections"]),
    ],
)
def test_a_prepared_folder_that_other_runs_may_use_is_not_changed(script, raw, tmp_path, change, more, words):
    prepared = tmp_path / "prepared"
    assert script("prepare", "--data", raw, "--out", prepared, "--folds", 2).code == 0
    before = {path.name: path.read_bytes() for path in prepared.glob("[a-z]*.*")}
    change(raw)
    refused(script("pipeline", *pipeline_args(raw, tmp_path), *more), str(prepared), *words)
    assert {path.name: path.read_bytes() for path in prepared.glob("[a-z]*.*")} == before
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_data_without_an_eval_set_ends_with_the_report(script, raw, tmp_path):
    shutil.rmtree(raw / "eval")
    done = script("pipeline", *tiny_args(raw, "--name", "lone", "--folds", 0))
    assert done.code == 0, done.err
    assert "submission: none" in done.out
    assert (tmp_path / "runs" / "lone" / "report.html").exists()


def no_locks(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_the_folder_for_submissions_is_checked_before_training(script, synthetic, tmp_path):
    Path("submissions").touch()
    refused(script("pipeline", *tiny_args(synthetic)), "demo.csv: cannot be written", "--out")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("flag", ["--out", "--truth"])
def test_flags_of_a_submission_need_an_eval_set(script, raw, tmp_path, flag):
    shutil.rmtree(raw / "eval")
    path = {"--out": "s.csv", "--truth": raw / "answers.csv"}[flag]
    refused(script("pipeline", *tiny_args(raw, flag, path)), f"{flag}: ", "no eval set")
    assert not (tmp_path / "runs").exists()


def test_errors_come_before_the_first_stage(script, synthetic, tmp_path, monkeypatch):
    refused(script("pipeline", *tiny_args(synthetic, "--truth", "missing.csv")), "--truth", "missing.csv")
    refused(script("pipeline", *tiny_args(synthetic, "--optim.lr", "-1")), "--optim.lr")
    refused(script("pipeline", *tiny_args(synthetic, "--name", "")), "--name ''", "a run name")
    refused(script("pipeline", *tiny_args(synthetic, "--tta", "none", "hflp")), "--tta hflp", "did you mean hflip")
    refused(script("pipeline", *tiny_args(synthetic, "--out", "sub.txt")), "--out sub.txt", "ends in .csv")
    Path("file").touch()
    refused(script("pipeline", *tiny_args(synthetic, "--out", "file/sub.csv")), "cannot be written", "--out")
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", no_locks)
        refused(script("pipeline", *tiny_args(synthetic, "--out", "a/sub.csv")), "cannot lock files", "--no-lock")
    assert not (tmp_path / "data").exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(script("pipeline", *tiny_args(synthetic)), "one process", "train.py")
    assert not (tmp_path / "runs").exists()


def start_pipeline(raw: Path, home: Path) -> subprocess.Popen:
    home.mkdir(exist_ok=True)
    command = [sys.executable, ROOT / "scripts" / "pipeline.py", *pipeline_args(raw, home)]
    return subprocess.Popen(
        list(map(str, command)), cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def whole(synthetic, tmp_path_factory) -> tuple[Path, float]:
    """The folder of a pipeline that was not interrupted, and its seconds."""
    home, begin = tmp_path_factory.mktemp("whole"), time.monotonic()
    finish(start_pipeline(synthetic, home))
    return home, time.monotonic() - begin


def finish(process: subprocess.Popen) -> str:
    """Wait for a process that must succeed; returns what it printed on stderr."""
    _, err = process.communicate()
    assert process.returncode == 0, err
    return err


def same_files(home: Path, other: Path) -> None:
    same_results(home / "runs" / "tiny", home / "s.csv", other / "runs" / "tiny", other / "s.csv")
    assert (home / "runs" / "tiny" / "report.html").exists()


def stages_done(home: Path) -> int:
    """The number of stages that have written their results: prepare, the two folds, train, submit."""
    names = ("prepared/dataset.json", *(f"runs/tiny/fold{fold}/model.safetensors" for fold in (0, 1)))
    return sum((home / name).exists() for name in (*names, "runs/tiny/summary.json", "s.csv"))


@pytest.mark.parametrize("kills", [pytest.param(3, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.long)])
def test_killed_pipelines_end_with_the_same_files(synthetic, tmp_path, whole, kills):
    """SIGKILLs at moments from the start to the end of the command, then the same command to its end."""
    (unbroken, seconds), killed, rng, stages = whole, tmp_path / "killed", random.Random(20), []
    # The early moments come first: each command resumes, so after a late kill only the last stages would be left.
    for moment in [(number + rng.random()) / kills for number in range(kills)]:
        process, is_killed = start_pipeline(synthetic, killed), False
        while not is_killed:
            try:
                process.communicate(timeout=moment * seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
            is_killed = process.returncode == -signal.SIGKILL
            if not is_killed:
                # Little work was left. Begin again, and kill earlier in case the machine has become faster.
                assert process.returncode == 0
                same_files(killed, unbroken)
                shutil.rmtree(killed)
                process, moment = start_pipeline(synthetic, killed), 0.9 * moment
        stages.append(stages_done(killed))
    assert len(stages) == kills
    assert len(set(stages)) >= min(kills - 1, 3), stages
    finish(start_pipeline(synthetic, killed))
    same_files(killed, unbroken)
    again = subprocess.run(
        list(map(str, [sys.executable, ROOT / "scripts" / "pipeline.py", *pipeline_args(synthetic, killed)])),
        cwd=killed,
        capture_output=True,
        text=True,
    )
    assert again.stdout.count("is up to date") == 2, again.stdout


@pytest.mark.parametrize(
    ("signum", "status"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        # train.py is tested with both signals.
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long),
    ],
)
def test_a_stopped_pipeline_saves_and_resumes(synthetic, tmp_path, whole, signum, status):
    home = tmp_path / "home"
    process = start_pipeline(synthetic, home)
    metrics = home / "runs" / "tiny" / "fold0" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    os.kill(process.pid, signum)
    _, err = process.communicate()
    assert process.returncode == status, err
    assert list((home / "runs" / "tiny").rglob("last.pt"))
    assert "resumes after" in finish(start_pipeline(synthetic, home))
    same_files(home, whole[0])
