"""scripts/clean.py: what it lists, what it deletes and what it leaves alone; other verbs still work afterwards."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import refused
from support import PATIENCE

from maskfold import locks
from maskfold.data.images_table import load_prepared
from maskfold.loading.store import Store, open_store
from maskfold.runs import disk_cleanup, run_deletion
from maskfold.runs.run_folder import RunFolder

RUN, PREPARED = Path("runs/tiny"), Path("prepared")


def files(*folders: Path) -> set[str]:
    """All files and links below folders, but no locks."""
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    return {str(path) for path in paths if path.name != ".lock"}


@pytest.fixture
def run(trained, tmp_path, monkeypatch) -> RunFolder:
    """A copy of a finished run and its prepared folder in an empty folder, the current one."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained.run.folder, RUN)
    shutil.copytree(trained.prepared, PREPARED)
    config, provenance = RUN / "config.yaml", RUN / "provenance.json"
    text = config.read_text(encoding="utf-8").replace(str(trained.prepared), str(tmp_path / PREPARED))
    # Otherwise the tests would delete what other tests need.
    assert str(tmp_path / PREPARED) in text
    config.write_text(text, encoding="utf-8")
    content = json.loads(provenance.read_text(encoding="utf-8"))
    content["config_sha256"] = hashlib.sha256(config.read_bytes()).hexdigest()
    provenance.write_text(json.dumps(content), encoding="utf-8")
    return RunFolder(RUN)


def files_of_stores(paths: set[str]) -> set[str]:
    return {path for path in paths if "/store/" in path}


def unfinish(run: RunFolder) -> list[Path]:
    """Make fold1 an unfinished fold with a training state."""
    (RUN / "fold1" / "oof.npz").unlink()
    run.weights_path("fold1").unlink()
    state = RUN / "fold1" / "state"
    state.mkdir()
    paths = [state / "last.pt", state / "epoch-0001.safetensors"]
    for path in paths:
        path.write_bytes(b"x" * 1000)
    return paths


def test_listing_names_all_folders_and_deletes_nothing(script, run):
    unfinish(run)
    before = files(RUN, PREPARED)
    done = script("clean")
    assert done.code == 0, done.err
    assert files(RUN, PREPARED) == before
    for word in ("runs/tiny", "prepared", "states", "stores", "weights", "total"):
        assert word in done.out
    size = sum(Path(path).stat().st_size for path in before)
    assert f"{size / 1e6:,.1f} MB" in done.out.splitlines()[-2]


def test_verbs_work_after_stores_and_caches_are_deleted(script, run):
    assert script("submit", "tiny", "--out", "a.csv").code == 0
    before = files(RUN, PREPARED)
    # Another file with a similar name, which the project did not write.
    for path in (RUN / "oof-backup.npz", PREPARED / "store" / "mine.npy"):
        path.write_bytes(b"mine")
    done = script("clean", "--stores", "--caches")
    assert done.code == 0, done.err
    deleted = before - files(RUN, PREPARED)
    assert {str(RUN / "eval-none.npz"), str(RUN / "oof-none.npz")} < deleted
    assert not [path for path in deleted if "store/" not in path and "-none" not in path]
    assert all(path in done.out for path in deleted)
    assert (RUN / "oof-backup.npz").exists()
    assert [path.name for path in (PREPARED / "store").glob("*.npy")] == ["mine.npy"]
    assert script("evaluate", "tiny").code == 0
    assert script("submit", "tiny", "--out", "b.csv").code == 0
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    # Stores that only other runs need are built when they need them.
    assert {path for path in before if "store/" not in path} <= files(RUN, PREPARED)


def test_weights_are_deleted_only_with_yes(script, run):
    before = files(RUN)
    refused(script("clean", "tiny", "--weights", "--states"), "fold0/model.safetensors", "fold1", "--yes")
    assert files(RUN) == before
    assert script("clean", "tiny", "--weights", "--yes").code == 0
    assert before - files(RUN) == {str(run.weights_path(part)) for part in ("fold0", "fold1")}
    assert script("evaluate", "tiny").code == 0
    refused(script("submit", "tiny"), "model.safetensors", "train fold0 again")


def test_predictions_of_deleted_weights_are_deleted_only_with_yes(script, run):
    (RUN / "eval-none+hflip.npz").write_bytes(b"x")
    run.weights_path("fold0").unlink()
    refused(script("clean", "--caches"), "eval-none+hflip.npz", "--yes")
    assert (RUN / "eval-none+hflip.npz").exists()


def test_states_of_unfinished_folds(script, run):
    state = unfinish(run)
    (state[0].parent / "notes.txt").write_text("mine")
    before = files(RUN)
    assert script("clean", "--states").code == 0
    assert before - files(RUN) == {str(path) for path in state}
    assert (state[0].parent / "notes.txt").exists()


def train_store(run: RunFolder) -> Store:
    prepared = load_prepared(PREPARED)
    return open_store(prepared, prepared.images, run.config.data)


def test_a_run_in_training_and_its_store_are_left_alone(script, run):
    unfinish(run)
    store = train_store(run)
    before = files(RUN, PREPARED)
    with run.lock():
        done = script("clean", "--states", "--stores", "--temporary", "--weights", "--yes")
        assert done.code == 0, done.err
        assert before - files(RUN, PREPARED) == files_of_stores(before) - {str(store.path)}
        assert "runs/tiny: left alone" in done.out
        assert f"{store.path}: left alone" in done.out
        assert "runs/tiny" in script("clean", "tiny", "--runs", "--yes").out
        assert files(RUN) == before - files_of_stores(before) - files(PREPARED)


def test_a_store_that_a_process_uses_is_left_alone_wherever_its_run_is(script, run):
    """A run with --out on another disk, or of a colleague: no folder in runs/ tells of it."""
    code = f"""
from pathlib import Path
from maskfold.config.yaml_file import load_config
from maskfold.data.images_table import load_prepared
from maskfold.loading.store import open_store
prepared = load_prepared(Path({str(PREPARED)!r}))
store = open_store(prepared, prepared.images, load_config(Path("runs/tiny/config.yaml")).data)
print(store.path, flush=True)
input()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    path = Path(other.stdout.readline().strip())
    shutil.rmtree(RUN)
    done = script("clean", PREPARED, "--stores")
    assert done.code == 0, done.err
    assert "in use" in done.out
    assert files_of_stores(files(PREPARED)) == {str(path)}
    other.communicate("\n", timeout=PATIENCE)
    assert script("clean", PREPARED, "--stores").code == 0
    assert not path.exists()


def test_a_store_whose_raw_data_is_missing_is_deleted_only_with_yes(script, run):
    meta = json.loads((PREPARED / "dataset.json").read_text(encoding="utf-8"))
    (PREPARED / "dataset.json").write_text(json.dumps(meta | {"root": "/gone/raw"}), encoding="utf-8")
    before = files(PREPARED)
    refused(script("clean", PREPARED, "--stores"), "/gone", "--yes")
    assert files(PREPARED) == before
    assert script("clean", PREPARED, "--stores", "--yes").code == 0
    assert files(PREPARED) < before


def test_the_folder_of_cache_flags(script, run):
    assert script("submit", "tiny", "--cache", "cache", "--out", "a.csv").code == 0
    shutil.rmtree(PREPARED / "store")
    assert script("submit", "tiny", "--tta", "hflip", "--cache", "cache", "--out", "b.csv").code == 0
    before = files(Path("cache"))
    assert any("store/" in path for path in before)
    assert "cache" in script("clean", "--cache", "cache").out
    assert files(Path("cache")) == before
    done = script("clean", "--cache", "cache", "--stores", "--caches")
    assert done.code == 0, done.err
    assert not [path for path in files(Path("cache")) if path.endswith(".npy") or "eval-" in path or "oof-" in path]
    refused(script("clean", "--cache", "nowhere"), "nowhere")


def test_links_are_not_followed(script, run, tmp_path):
    outside = tmp_path / "outside"
    shutil.move(PREPARED / "store", outside / "store")
    (PREPARED / "store").symlink_to(outside / "store")
    shutil.move(RUN / "fold0", outside / "fold0")
    (RUN / "fold0").symlink_to(outside / "fold0")
    (outside / "last.pt").write_bytes(b"x")
    (RUN / "fold1" / "state").mkdir()
    (RUN / "fold1" / "state" / "last.pt").symlink_to(outside / "last.pt")
    (RUN / "wandb").mkdir()
    (RUN / "wandb" / "latest-run").symlink_to(outside)
    (RUN.parent / "link").symlink_to(outside)
    shutil.copytree(RUN, outside / "run", symlinks=True)
    (RUN.parent / "linked").symlink_to(outside / "run")
    before = files(outside)
    flags = [f"--{kind}" for kind in ("states", "caches", "stores", "weights", "wandb", "temporary")]
    done = script("clean", *flags, "--yes")
    assert done.code == 0, done.err
    assert files(outside) == before
    assert "runs/linked: is a symbolic link" in done.out
    assert not (RUN / "wandb").exists()
    assert script("clean", "linked", "tiny", "--runs", "--yes").code == 0
    assert files(outside) == before
    assert not RUN.exists()


def test_temporary_files_of_ended_processes(script, run):
    old, young, running = (RUN / f".{pid}.oof.npz" for pid in (2**22 + 1, 2**22 + 2, os.getpid()))
    for path in (old, young, running):
        path.write_bytes(b"x")
    for path in (old, running):
        os.utime(path, (time.time() - 3600,) * 2)
    assert script("clean", "--temporary").code == 0
    assert [path.exists() for path in (old, young, running)] == [False, True, True]


def test_whole_runs_have_to_be_named(script, run):
    other = Path(shutil.copytree(RUN, "runs/other"))
    refused(script("clean", "--runs"), "--runs", "name them")
    refused(script("clean", "other", "--runs"), "runs/other", "fold0", "--yes")
    refused(script("clean", "--yes"), "--yes")
    assert other.exists()
    assert script("clean", "other", "--runs", "--yes").code == 0
    assert not other.exists()
    assert RUN.exists()
    for fold in ("fold0", "fold1"):
        (RUN / fold / "oof.npz").unlink()
    assert script("clean", "tiny", "--runs").code == 0
    assert not RUN.exists()


def test_only_runs_and_prepared_folders_are_accepted(script, run):
    Path("runs/photos").mkdir()
    Path("runs/photos/config.yaml").write_text("")
    refused(script("clean", "runs/photos", "--runs", "--yes"), "provenance.json")
    done = script("clean", "--states", "--wandb")
    assert "runs/photos: left alone" in done.out
    assert Path("runs/photos/config.yaml").exists()


@pytest.mark.parametrize("name", ["offline-run-1", "run-1"])
def test_wandb_runs_that_were_not_uploaded_are_kept(script, run, name):
    # An online run whose connection broke lies in run-*, like one that was uploaded.
    uploaded, offline = RUN / "wandb" / "run-0", RUN / "wandb" / name
    for folder in (uploaded, offline):
        folder.mkdir(parents=True)
        (folder / "run-1.wandb").write_bytes(b"x")
    (RUN / "fold0" / "wandb.json").write_text(json.dumps({"offline": f"wandb/{name}"}))
    (RUN / "fold1" / "wandb.json").write_text(json.dumps({"offline": None}))
    refused(script("clean", "--wandb"), "not uploaded", "--yes")
    (offline / "run-1.wandb.synced").write_bytes(b"")
    assert script("clean", "--wandb").code == 0
    assert not (RUN / "wandb").exists()


def test_a_deletion_that_was_killed_is_finished(script, run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run_deletion.shutil, "rmtree", lambda path: os.kill(os.getpid(), signal.SIGINT))
        assert script("clean", "tiny", "--runs", "--yes").code == 130
    assert not (RUN / "config.yaml").exists()
    assert (RUN / "fold0" / "model.safetensors").exists()
    done = script("clean")
    assert "runs/tiny: its deletion was not finished" in done.out
    # Nothing can be made again from it.
    done = script("clean", "tiny", "--runs")
    assert done.code == 0, done.err
    assert not RUN.exists()


def test_stores_of_a_prepared_folder_whose_preparation_was_killed(script, run):
    (PREPARED / "dataset.json").unlink()
    refused(script("clean", PREPARED, "--stores"), "missing or damaged", "--yes")
    assert script("clean", PREPARED, "--stores", "--yes").code == 0
    assert files_of_stores(files(PREPARED)) == set()


def test_a_run_is_deleted_from_inside_and_without_locks(script, run, monkeypatch):
    (RUN / ".lock").unlink(missing_ok=True)
    monkeypatch.chdir(RUN)
    done = script("clean", ".", "--runs", "--yes", "--no-lock")
    locks.enable_locks(True)
    assert done.code == 0, done.err
    assert not Path("../tiny").exists()


def test_after_an_error_the_other_folders_are_cleaned(script, run, monkeypatch):
    other = Path(shutil.copytree(RUN, "runs/other"))
    remove = disk_cleanup._remove

    def fail(entry):
        if entry.path.is_relative_to(other):
            raise OSError(errno.EACCES, "Permission denied", str(entry.path))
        remove(entry)

    monkeypatch.setattr(disk_cleanup, "_remove", fail)
    before = files(Path("runs"))
    done = script("clean", "other", "tiny", "--weights", "--yes")
    refused(done, "runs/other/fold0/model.safetensors: Permission denied")
    deleted = {str(run.weights_path(part)) for part in ("fold0", "fold1")}
    assert before - files(Path("runs")) == deleted
    assert all(path in done.out for path in deleted)


def test_stores_of_a_missing_eval_set_are_deleted_only_with_yes(script, run):
    meta = json.loads((PREPARED / "dataset.json").read_text(encoding="utf-8"))
    (PREPARED / "dataset.json").write_text(json.dumps(meta | {"eval": "/gone/elsewhere"}), encoding="utf-8")
    # The training photos are there, but no eval/ beside them.
    raw = Path(meta["root"])
    Path("raw").mkdir()
    (Path("raw") / "train").symlink_to(raw / "train")
    (PREPARED / "dataset.json").write_text(
        json.dumps(meta | {"root": "raw", "eval": "/gone/elsewhere"}), encoding="utf-8"
    )
    refused(script("clean", PREPARED, "--stores"), "/gone/elsewhere", "--yes")
    assert files_of_stores(files(PREPARED))


def test_what_only_other_runs_can_make_again_is_deleted_from_a_cache_only_with_yes(script, run):
    assert script("submit", "tiny", "--cache", "cache", "--out", "a.csv").code == 0
    before = files(Path("cache"))
    run.weights_path("fold0").unlink()
    refused(script("clean", "--cache", "cache", "--caches"), "weights", "eval-none.npz", "--yes")
    shutil.rmtree(RUN)
    (Path("cache") / "store").mkdir(exist_ok=True)
    shutil.copytree(PREPARED / "store", "cache/store", dirs_exist_ok=True)
    refused(script("clean", "--cache", "cache", "--caches"), "eval-none.npz", "no known run", "--yes")
    refused(script("clean", "--cache", "cache", "--stores"), "cache/store", "no known run", "--yes")
    assert before <= files(Path("cache"))
    assert script("clean", "--cache", "cache", "--caches", "--stores", "--yes").code == 0
    assert not files_of_stores(files(Path("cache")))


def test_a_prepared_folder_of_other_data_is_not_that_of_the_run(script, run):
    """The run's own prepared folder is gone, and another one lies in its place."""
    folds = PREPARED / "folds.csv"
    lines = folds.read_text(encoding="utf-8").splitlines()
    folds.write_text("\n".join([lines[0], *(f"{line[:-1]}{1 - int(line[-1])}" for line in lines[1:])]) + "\n")
    before = files(PREPARED)
    assert script("clean", "tiny", "--stores").code == 0
    assert files(PREPARED) == before
