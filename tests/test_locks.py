"""File systems without locks: one message that names the cause and --no-lock."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, refused, tiny_args

from maskfold import locks
from maskfold.errors import UserError
from maskfold.locks import check_locks, locked

NO_FLOCK = """
#include <errno.h>
int flock(int fd, int operation) { (void)fd; (void)operation; errno = ERRNO; return -1; }
"""
ERRNOS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL]


@pytest.fixture(autouse=True)
def locks_again():
    yield
    locks.enable_locks(True)


@pytest.fixture(params=ERRNOS, ids=errno.errorcode.get)
def no_flock(request, monkeypatch):
    def flock(handle, operation):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)
    return os.strerror(request.param)


@pytest.mark.parametrize("busy", [None, "busy"])
def test_a_missing_lock_is_an_error_with_its_cause(tmp_path, no_flock, busy):
    with pytest.raises(UserError, match="--no-lock") as error, locked(tmp_path, busy):
        pass
    assert no_flock in str(error.value)
    with pytest.raises(UserError, match="--no-lock"):
        check_locks(tmp_path / "not" / "yet")
    locks.enable_locks(False)
    check_locks(tmp_path)
    with locked(tmp_path, busy):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("no_flock", [errno.ENOLCK], indirect=True)
def test_every_verb_that_locks_takes_no_lock(script, raw, no_flock):
    prepare = ("prepare", "--data", raw, "--out", "p", "--folds", 2)
    refused(script(*prepare), "p:", no_flock, "--no-lock")
    assert not Path("p/dataset.json").exists()
    assert script(*prepare, "--no-lock").code == 0
    train = ("train", *tiny_args(raw, "--data.prepared", "p", "--name", "a", "--optim.epochs", 1))
    refused(script(*train), no_flock, "--no-lock")
    done = script(*train, "--no-lock")
    assert done.code == 0, done.err
    baselines = ("baselines", ROOT / "configs" / "demo.yaml", "--data.root", raw, "--data.prepared", "p")
    shutil.rmtree("p/store")
    refused(script(*baselines), no_flock, "--no-lock")
    assert script(*baselines, "--no-lock").code == 0
    shutil.rmtree("p/store")
    for verb in ("submit", "report", "audit"):
        refused(script(verb, "a"), no_flock, "--no-lock")
    assert not Path("submissions/a.csv").exists()
    for verb in ("submit", "report", "audit", "evaluate"):
        done = script(verb, "a", "--no-lock")
        assert done.code == 0, done.err
    refused(script("submit", "--record", "a", 0.5), no_flock, "--no-lock")
    assert script("submit", "--record", "a", 0.5, "--no-lock").code == 0


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_file_system_without_flock(raw, tmp_path):
    """The C library's flock fails, as on NFS without a lock service."""
    (tmp_path / "noflock.c").write_text(NO_FLOCK.replace("ERRNO", str(errno.ENOLCK)))
    library = tmp_path / "noflock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "noflock.c"], check=True)
    command = [sys.executable, ROOT / "scripts" / "prepare.py", "--data", raw, "--out", tmp_path / "p"]
    env = os.environ | {"LD_PRELOAD": str(library)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "--no-lock" in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run([*command, "--no-lock"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
