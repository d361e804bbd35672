"""Folders written by a newer maskfold are refused wherever they are opened, and are not changed."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, TINY, refused

import maskfold
from maskfold.errors import UserError
from maskfold.format_version import PREPARED, RUN, check_format

META, PROVENANCE = "dataset.json", "provenance.json"


def set_version(path: Path, version: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": version}))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("version", [0, -1, 1.0, "1", True, None, [1]])
def test_an_invalid_version_is_refused(version):
    with pytest.raises(UserError, match=r"x\.json: format .* fix it"):
        check_format(Path("x.json"), {"format": version}, 3, "fix it")


@pytest.mark.parametrize("content", [{}, {"format": 1}, {"format": 3}])
def test_older_versions_and_folders_without_a_version_are_read(content):
    check_format(Path("x.json"), content, 3, "")


def test_written_folders_have_a_version(trained):
    assert json.loads((trained.run.folder / PROVENANCE).read_text())["format"] == RUN
    assert json.loads((trained.prepared / META).read_text())["format"] == PREPARED


@pytest.fixture
def newer_run(trained, script, tmp_path) -> Path:
    """A run of the next format version, whose files differ from this version's."""
    run = Path(shutil.copytree(trained.run.folder, tmp_path / "runs" / "newer"))
    (run / "oof.npz").unlink()
    (run / "fold0" / "metrics.jsonl").write_text("of another format")
    (run / "config.yaml").write_text("keys: of the future\n")
    set_version(run / PROVENANCE, RUN + 1)
    return run


def train(trained, *more):
    places = ("--data.root", trained.raw, "--data.prepared", trained.prepared, "--data.folds", 2)
    return ("train", ROOT / "configs" / "demo.yaml", *TINY, *places, *more)


def test_a_newer_run_is_refused(trained, script, newer_run):
    before = contents(newer_run)
    for call in (
        ("evaluate", "newer"),
        ("evaluate", trained.run.folder, newer_run),
        ("submit", "newer", "--out", "a.csv"),
        ("report", "newer"),
        ("audit", "newer"),
        train(trained, "--name", "newer"),
        train(trained, "--name", "other", "--pseudo.runs", "newer"),
    ):
        refused(script(*call), f"newer/{PROVENANCE}", f"version {RUN + 1}", f"than {RUN},", "update maskfold")
    assert contents(newer_run) == before
    assert not Path("a.csv").exists()
    assert not Path("runs/other").exists()
    with pytest.raises(UserError, match="update maskfold"):
        maskfold.load_run(newer_run)


def test_a_manifest_of_a_newer_run_is_not_rebuilt(trained, script, tmp_path):
    run = Path(shutil.copytree(trained.run.folder, tmp_path / "runs" / "later"))
    done = script("submit", "later", "--out", "a.csv")
    assert done.code == 0, done.err
    set_version(run / PROVENANCE, RUN + 1)
    refused(script("submit", "--from", "a.json"), PROVENANCE, "update maskfold")


def test_a_newer_run_may_be_deleted(trained, script, newer_run):
    """The user asks for it with --fresh."""
    done = script(*train(trained, "--name", "newer", "--folds", 0, "--fresh"))
    assert done.code == 0, done.err
    assert json.loads((newer_run / PROVENANCE).read_text())["format"] == RUN


def test_a_newer_prepared_folder_is_refused(trained, script, raw, tmp_path):
    assert script("prepare", "--data", raw, "--out", "p", "--folds", 2).code == 0
    tiny = ("train", ROOT / "configs" / "demo.yaml", *TINY, "--data.prepared", "p", "--data.folds", 2, "--name", "a")
    assert script(*tiny, "--data.root", raw).code == 0
    set_version(tmp_path / "p" / META, PREPARED + 1)
    (tmp_path / "p" / "images.csv").write_text("of another format")
    before = contents(tmp_path / "p")
    for call in (
        ("prepare", "--data", raw, "--out", "p"),
        (*tiny, "--data.root", raw),
        (*tiny, "--data.root", raw, "--name", "b"),
        ("baselines", ROOT / "configs" / "demo.yaml", "--data.root", raw, "--data.prepared", "p"),
        ("submit", "a", "--out", "a.csv"),
        ("report", "a"),
        ("audit", "a"),
    ):
        refused(script(*call), f"p/{META}", f"version {PREPARED + 1}", f"than {PREPARED},", "update maskfold")
    assert contents(tmp_path / "p") == before
    assert not Path("a.csv").exists()
    assert not Path("runs/b").exists()
