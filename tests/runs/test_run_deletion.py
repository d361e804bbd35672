"""The deletion of a run folder: never of anything else, resumed after a kill, and never while a part is written."""

import subprocess
import sys
import threading
import time

import pytest
from support import PATIENCE

from maskfold.errors import UserError
from maskfold.runs import run_deletion
from maskfold.runs.run_deletion import delete_run
from maskfold.runs.run_folder import RunFolder


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A started run of three parts."""
    for part in ("fold0", "fold1", "full"):
        (tmp_path / "run" / part / "state").mkdir(parents=True)
        (tmp_path / "run" / part / "state" / "last.pt").write_text("checkpoint")
    for name in (".lock", "config.yaml", "provenance.json", "summary.json"):
        (tmp_path / "run" / name).write_text("{}")
    return RunFolder(tmp_path / "run")


def test_everything_but_the_lock_is_deleted(run):
    delete_run(run)
    assert [path.name for path in run.folder.iterdir()] == [".lock"]


@pytest.mark.parametrize("kills_at", range(3))
def test_a_killed_deletion_is_finished_by_the_next_start(run, monkeypatch, kills_at):
    remove, calls = run_deletion.shutil.rmtree, []

    def killed(path, *args, **keys):
        calls.append(path)
        if len(calls) > kills_at:
            raise KeyboardInterrupt
        remove(path, *args, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(run_deletion.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            delete_run(run)
    assert not run.started
    delete_run(run)
    assert [path.name for path in run.folder.iterdir()] == [".lock"]


def test_temporary_files_of_a_killed_start_are_deleted(tmp_path):
    for name in (".4711.provenance.json", ".4711.config.yaml", "provenance.json"):
        (tmp_path / name).write_text("{")
    delete_run(RunFolder(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["thesis.tex", ".thesis.tex", "4711.config.yaml"])
def test_other_files_are_never_deleted(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(UserError, match=name):
        delete_run(RunFolder(tmp_path))
    assert (tmp_path / name).read_text() == "precious"


def test_a_part_that_is_still_being_saved_is_waited_for(run):
    """A process that outlived its parent writes a checkpoint: it is not there again after the deletion."""
    part = run.part_dir("fold1")
    code = f"""
from pathlib import Path
from maskfold.fileio import write_text
from maskfold.locks import locked
with locked(Path({str(part)!r})):
    print("locked", flush=True)
    input()
    write_text(Path({str(part)!r}) / "state" / "last.pt", "checkpoint")
"""
    orphan = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert orphan.stdout.readline() == "locked\n"
    deletion = threading.Thread(target=delete_run, args=(run,))
    deletion.start()
    time.sleep(0.3)
    orphan.communicate("\n", timeout=PATIENCE)
    assert orphan.returncode == 0
    deletion.join(PATIENCE)
    assert [path.name for path in run.folder.iterdir()] == [".lock"]
