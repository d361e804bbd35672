"""The wheel, installed into its own environment outside the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

from maskfold.commands.console import VERBS
from maskfold.probabilities import load_predictions

STORED = ROOT / "tests" / "runs" / "stored_run"
PREDICT = """
import sys, maskfold
print(maskfold.__file__)
print(*maskfold.load_run("copied").predict(sys.argv[1:], ("none", "hflip")).label)
"""


def run(*command: object, cwd: Path) -> str:
    """stdout of a command that runs outside the checkout."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of the environment. It uses the dependencies of this environment, so nothing is downloaded."""
    home = tmp_path_factory.mktemp("wheel")
    # Built from a copy, because a build leaves folders beside its source.
    source = home / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", home / "dist", source, cwd=home)
    [wheel] = (home / "dist").iterdir()
    run(sys.executable, "-m", "venv", "--without-pip", home / "venv", cwd=home)
    python = home / "venv" / "bin" / "python"
    run(*pip, "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=home)
    # These folders come after the environment's own packages. Their .pth files, such as that of an editable maskfold, are
    # not read.
    [site] = (home / "venv" / "lib").glob("python*/site-packages")
    paths = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in paths))
    return home / "venv"


@pytest.mark.slow
def test_it_requires_what_requirements_txt_lists(installed):
    [metadata] = installed.glob("lib/python*/site-packages/maskfold-*.dist-info")
    required = [Requirement(line) for line in Distribution.at(metadata).requires]
    core = {each.name: each.specifier for each in required if each.marker is None}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert core == {each.name: each.specifier for each in requirements}


@pytest.mark.slow
def test_every_verb_shows_its_help(installed, tmp_path):
    assert "usage: maskfold COMMAND" in run(installed / "bin" / "maskfold", "--help", cwd=tmp_path)
    for verb in VERBS:
        assert f"usage: maskfold {verb}" in run(installed / "bin" / "maskfold", verb, "--help", cwd=tmp_path)


@pytest.mark.slow
def test_a_copied_run_predicts(installed, tmp_path):
    """The run folder alone: its data is not on this machine."""
    shutil.copytree(STORED / "runs" / "stored", tmp_path / "copied")
    photos = sorted((STORED / "raw" / "eval" / "images").iterdir())[:5]
    place, labels = run(installed / "bin" / "python", "-c", PREDICT, *photos, cwd=tmp_path).splitlines()
    assert Path(place).is_relative_to(installed)
    known = load_predictions(STORED / "expected" / "eval.npz").aligned([photo.name for photo in photos])
    assert labels.split() == [str(label) for label in known.pred_labels]
