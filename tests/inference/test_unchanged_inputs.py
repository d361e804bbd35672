"""What counts as up to date: a submission that is made again would be the same, its manifest and its index too."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import first_quick, refused

from maskfold.inference import submission
from maskfold.inference.blend import blend_runs
from maskfold.inference.submission import make_submission
from maskfold.inference.submission_index import INDEX_COLUMNS, read_index
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


@pytest.mark.parametrize("members", first_quick({"run": "tiny"}, None, 1, "tiny", [1]))
def test_damaged_members_of_a_manifest_are_written_again(script, run, members):
    assert script("submit", run, "--out", "a.csv").code == 0
    manifest = json.loads(Path("a.json").read_text())
    Path("a.json").write_text(json.dumps(manifest | {"members": members}))
    done = script("submit", run, "--out", "a.csv")
    assert done.code == 0, done.err
    assert "is up to date" not in done.out
    assert json.loads(Path("a.json").read_text())["members"] == manifest["members"]


@pytest.mark.parametrize("text", ["image_id,path\nx\n", f"image_id,path\n{'x' * 200_000},y\n"])
def test_a_damaged_table_changes_the_inputs(run, trained, tmp_path, text):
    """A row without a path; a cell that is too long for the csv module."""
    prepared = Path(shutil.copytree(trained.prepared, tmp_path / "p"))
    runs = [RunFolder(run, Places(trained.raw, prepared))]
    assert submission_inputs(runs, ("none",), "mean", "argmax") is None
    assert make_submission(runs, ["none"], tmp_path / "a.csv")[0].get("inputs") is not None
    before = submission_inputs(runs, ("none",), "mean", "argmax")
    assert before is not None
    (prepared / "images.csv").write_text(text)
    assert submission_inputs(runs, ("none",), "mean", "argmax") != before


def test_a_report_depends_on_the_name_of_the_raw_folder(run, trained, tmp_path):
    """The page shows this name, but not the folder above. A submission shows neither of them."""
    prepared = Path(shutil.copytree(trained.prepared, tmp_path / "p"))
    runs, path = [RunFolder(run, Places(trained.raw, prepared))], prepared / "dataset.json"
    make_submission(runs, ["none"], tmp_path / "a.csv")

    def inputs(root):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"root": str(root)}))
        return report_inputs(runs), submission_inputs(runs, ("none",), "mean", "argmax")

    before, moved, renamed = inputs("/one/raw"), inputs("/two/raw"), inputs("/one/other")
    assert None not in before
    assert moved == before
    assert renamed[0] != before[0]
    assert renamed[1] == before[1]


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


@pytest.mark.slow
def test_a_submission_whose_checkpoints_changed_meanwhile_is_made_again(script, run, monkeypatch):
    def blend_and_train(*args):
        blend = blend_runs(*args)
        shutil.copy(run / "fold0" / "model.safetensors", run / "fold1" / "model.safetensors")
        return blend

    with monkeypatch.context() as patch:
        patch.setattr(submission, "blend_runs", blend_and_train)
        assert script("submit", run, "--out", "a.csv").code == 0
    assert json.loads(Path("a.json").read_text()).get("inputs") is None
    done = script("submit", run, "--out", "a.csv")
    assert done.code == 0, done.err
    assert "is up to date" not in done.out
    assert "is up to date" in script("submit", run, "--out", "a.csv").out


@pytest.mark.parametrize(
    "change",
    first_quick(
        {"weights": [0.5]}, {"temperatures": []}, {"factors": {}}, {"expected": {}}, {"tta": 1}, {"shift": 0.9}
    ),
)
def test_an_edited_manifest_is_written_again(script, run, change):
    assert script("submit", run, "--out", "a.csv").code == 0
    manifest = json.loads(Path("a.json").read_text())
    Path("a.json").write_text(json.dumps(manifest | change))
    done = script("submit", run, "--out", "a.csv")
    assert done.code == 0, done.err
    assert "is up to date" not in done.out
    again = json.loads(Path("a.json").read_text())
    assert all(again[key] == manifest[key] for key in manifest if key not in ("created", "inputs"))


@pytest.mark.parametrize("damage", first_quick("number", "text", "cells", "twice"))
def test_a_damaged_row_of_the_index_is_written_again(script, run, damage):
    assert script("submit", run, "--out", "a.csv").code == 0
    path, before = Path("index.csv"), read_index(Path()).drop(columns="created")
    header, row = path.read_text().splitlines()
    cells = row.split(",")
    if damage == "number":
        cells[INDEX_COLUMNS.index("expected_submission")] = "0.5"
    elif damage == "text":
        cells[INDEX_COLUMNS.index("members")] = "other"
    elif damage == "cells":
        # The end of the row is missing: the hash of the CSV, which is the last cell, in place of the numbers.
        cells = [*cells[:4], cells[-1]]
    path.write_text("\n".join([header, ",".join(cells), *([row] if damage == "twice" else []), ""]))
    done = script("submit", run, "--out", "a.csv")
    if damage == "cells":
        refused(done, "index.csv", "is not a number")
        return
    assert done.code == 0, done.err
    assert "is up to date" not in done.out
    pd.testing.assert_frame_equal(read_index(Path()).drop(columns="created"), before)
    assert "is up to date" in script("submit", run, "--out", "a.csv").out


def test_a_recorded_score_changes_nothing_and_a_damaged_index_is_an_error(script, run):
    for name in ("a", "b"):
        assert script("submit", run, "--out", f"{name}.csv").code == 0
    assert script("submit", "--record", Path("b.csv").absolute(), "0.75").code == 0
    assert "is up to date" in script("submit", run, "--out", "b.csv").out
    text = Path("index.csv").read_text()
    Path("index.csv").write_text(text.replace(",0.75,", ",high,"))
    refused(script("submit", run, "--out", "a.csv"), "index.csv", "high")
