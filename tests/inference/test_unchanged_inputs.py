"""What counts as up to date: a submission that is made again would be the same, its manifest and its index too."""

import json
import shutil
from pathlib import Path

import pytest

from maskfold.inference import submission
from maskfold.inference.blend import blend_runs
from maskfold.inference.submission import make_submission
from maskfold.inference.submission_index import read_index
from maskfold.inference.unchanged_inputs import LIBRARIES, report_inputs, submission_inputs
from maskfold.places import Places
from maskfold.runs import code_state
from maskfold.runs.run_folder import RunFolder


@pytest.mark.parametrize("name", sorted({*LIBRARIES, *code_state.PACKAGES} - {"maskfold", "scikit-learn"}))
def test_another_version_of_a_library_changes_the_inputs(run, trained, monkeypatch, name):
    """The versions that a run records: all that predict, except maskfold itself, whose code is hashed."""
    runs, version = [RunFolder(run)], code_state.version
    before = report_inputs(runs)
    assert before is not None
    monkeypatch.setattr(code_state, "version", lambda package: "0" if package == name else version(package))
    assert report_inputs(runs) != before


@pytest.mark.parametrize("members", [None, 1, "tiny", {"run": "tiny"}, [1]])
def test_damaged_members_of_a_manifest_are_written_again(script, run, members):
    assert script("submit", run, "--out", "a.csv").code == 0
    manifest = json.loads(Path("a.json").read_text())
    Path("a.json").write_text(json.dumps(manifest | {"members": members}))
    done = script("submit", run, "--out", "a.csv")
    assert done.code == 0, done.err
    assert "is up to date" not in done.out
    assert json.loads(Path("a.json").read_text())["members"] == manifest["members"]


@pytest.mark.parametrize("text", ["image_id,path\nx\n", f"image_id,path\n{'x' * 200_000},y\n"])
def test_inputs_that_cannot_be_read_are_none(run, trained, tmp_path, text):
    """A row without a path; a cell that is too long for the csv module."""
    prepared = Path(shutil.copytree(trained.prepared, tmp_path / "p"))
    runs = [RunFolder(run, Places(trained.raw, prepared))]
    assert submission_inputs(runs, ("none",), "mean", "argmax") is None
    assert make_submission(runs, ["none"], tmp_path / "a.csv")[0]["inputs"] is not None
    (prepared / "images.csv").write_text(text)
    assert submission_inputs(runs, ("none",), "mean", "argmax") is None


def test_a_renamed_submission_is_made_again(script, run):
    assert script("submit", run, "--out", "a.csv").code == 0
    for suffix in (".csv", ".json"):
        Path("a").with_suffix(suffix).rename(Path("b").with_suffix(suffix))
    done = script("submit", run, "--out", "b.csv")
    assert done.code == 0, done.err
    assert "is up to date" not in done.out
    assert json.loads(Path("b.json").read_text())["name"] == "b"
    assert read_index(Path())["name"].tolist() == ["a", "b"]
    assert "is up to date" in script("submit", run, "--out", "b.csv").out


def test_a_submission_whose_checkpoints_changed_meanwhile_is_made_again(script, run, monkeypatch):
    def blend_and_train(*args):
        blend = blend_runs(*args)
        shutil.copy(run / "fold0" / "model.safetensors", run / "fold1" / "model.safetensors")
        return blend

    with monkeypatch.context() as patch:
        patch.setattr(submission, "blend_runs", blend_and_train)
        assert script("submit", run, "--out", "a.csv").code == 0
    assert json.loads(Path("a.json").read_text())["inputs"] is None
    done = script("submit", run, "--out", "a.csv")
    assert done.code == 0, done.err
    assert "is up to date" not in done.out
    assert "is up to date" in script("submit", run, "--out", "a.csv").out
