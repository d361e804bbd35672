"""Which commit a run is recorded with."""

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from maskfold.runs import code_state


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A git checkout of somebody's own work, with our module in a folder that is not tracked."""
    (tmp_path / "site-packages").mkdir()
    shutil.copy(code_state.__file__, tmp_path / "site-packages")
    (tmp_path / "thesis.tex").write_text("")
    for words in ("init -q", "add thesis.tex", "-c user.name=a -c user.email=a@b.c commit -qm First"):
        subprocess.run(["git", *words.split()], cwd=tmp_path, check=True)
    return tmp_path


def recorded(checkout: Path) -> str | None:
    return runpy.run_path(str(checkout / "site-packages" / "code_state.py"))["code_state"]()["git_commit"]


def test_a_wheel_in_a_checkout_of_something_else_has_no_commit(checkout):
    assert recorded(checkout) is None


def test_a_checkout_of_ours_has_its_commit(checkout):
    subprocess.run(["git", "add", "site-packages"], cwd=checkout, check=True)
    assert recorded(checkout).endswith("-dirty")
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "Second"], cwd=checkout, check=True
    )
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, check=True, capture_output=True, text=True)
    assert recorded(checkout) == head.stdout.strip()
