"""A run of an earlier version of maskfold can be evaluated, submitted, reported, audited and loaded."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, refused

import maskfold
from maskfold import format_version
from maskfold.fileio import sha256
from maskfold.inference import predict_members
from maskfold.probabilities import load_predictions
from maskfold.runs.run_folder import RunFolder
from maskfold.runs.summary import summarise

STORED = ROOT / "tests" / "runs" / "stored_run"
RUN, PREPARED, VIEWS = Path("runs/stored"), Path("prepared"), ("--tta", "none", "hflip")
# The folder in which the run was made, as its files record it.
MADE_IN = str(Path(json.loads((STORED / PREPARED / "dataset.json").read_text())["root"]).parent)


@pytest.fixture
def stored(script, tmp_path) -> Path:
    """A copy of the stored run in the working directory; the absolute paths in its files name a folder that is gone."""
    shutil.copytree(STORED, tmp_path, dirs_exist_ok=True)
    for path in (RUN / "config.yaml", PREPARED / "dataset.json"):
        path.write_text(path.read_text().replace(MADE_IN, "/gone/stored"))
    provenance = RUN / "provenance.json"
    content = json.loads(provenance.read_text()) | {"config_sha256": sha256(RUN / "config.yaml")}
    provenance.write_text(json.dumps(content))
    return RUN


def test_the_data_is_found_from_another_working_directory(script, stored, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = script("submit", tmp_path / stored, *VIEWS, "--out", "new.csv")
    assert done.code == 0, done.err
    assert Path("new.csv").read_bytes() == (tmp_path / "expected" / "submission.csv").read_bytes()


def assert_same_predictions(name: str, expected_name: str) -> None:
    predictions, expected = (load_predictions(path) for path in (RUN / name, Path("expected", expected_name)))
    assert predictions.image_id.tolist() == expected.image_id.tolist()
    np.testing.assert_allclose(predictions.probs, expected.probs, atol=1e-5)


def test_the_stored_run_has_the_first_format():
    for path in (STORED / RUN / "provenance.json", STORED / PREPARED / "dataset.json"):
        assert "format" not in json.loads(path.read_text())


def test_evaluate(script, stored):
    expected = json.loads((stored / "summary.json").read_text())
    done = script("evaluate", "stored")
    assert done.code == 0, done.err
    assert f"{expected['oof']['macro_f1']:.4f}" in done.out
    summary = summarise(RunFolder(stored))
    for scores, stored_scores in (
        (summary["oof"], expected["oof"]),
        *zip(summary["folds"], expected["folds"], strict=True),
    ):
        assert scores == {key: pytest.approx(value) for key, value in stored_scores.items()}


def test_submit(script, stored):
    done = script("submit", "stored", *VIEWS, "--out", "new.csv")
    assert done.code == 0, done.err
    assert Path("new.csv").read_bytes() == Path("expected/submission.csv").read_bytes()
    assert_same_predictions("eval-none+hflip.npz", "eval.npz")
    assert_same_predictions("oof-none+hflip.npz", "oof.npz")


def test_cached_predictions_are_used(script, stored, monkeypatch):
    """They lack the predictions by fold: a new submission computes them, a rebuilt one does not need them."""
    for name in ("eval", "oof"):
        shutil.copy(f"expected/{name}.npz", stored / f"{name}-none+hflip.npz")
    done = script("submit", "stored", *VIEWS, "--out", "new.csv")
    assert done.code == 0, done.err
    assert "note" not in done.err
    assert Path("new.csv").read_bytes() == Path("expected/submission.csv").read_bytes()
    predictions, expected = (
        load_predictions(path) for path in (stored / "eval-none+hflip.npz", Path("expected/eval.npz"))
    )
    assert expected.fold_probs is None
    np.testing.assert_allclose(predictions.fold_probs.mean(0), expected.probs, atol=1e-5)
    monkeypatch.setattr(predict_members, "predict_members", None)
    for name in ("eval", "oof"):
        shutil.copy(f"expected/{name}.npz", stored / f"{name}-none+hflip.npz")
    done = script("submit", "--from", "new.json", "--out", "again.csv")
    assert done.code == 0, done.err
    assert Path("again.csv").read_bytes() == Path("new.csv").read_bytes()


@pytest.mark.slow
def test_report_and_audit(script, stored):
    done = script("report", "stored")
    assert done.code == 0, done.err
    score = json.loads((stored / "summary.json").read_text())["oof"]["macro_f1"]
    assert f"macro F1 {score:.4f}" in (stored / "report.html").read_text()
    done = script("audit", "stored")
    assert done.code == 0, done.err
    assert (stored / "audit" / "suspects.csv").is_file()


def test_its_data_is_prepared_to_the_same_tables(script, stored):
    """Same tables and fingerprints, so that the run can be resumed on newly prepared data; only `format` is added."""
    done = script("prepare", "--data", "raw", "--out", "anew", "--folds", 2)
    assert done.code == 0, done.err
    for name in ("images.csv", "folds.csv", "eval.csv"):
        assert Path("anew", name).read_bytes() == (PREPARED / name).read_bytes()
    meta = json.loads(Path("anew/dataset.json").read_text())
    assert meta.pop("format") == format_version.PREPARED
    stored_meta = json.loads((PREPARED / "dataset.json").read_text())
    # The words of a warning may differ between versions.
    assert len(meta.pop("warnings")) == len(stored_meta.pop("warnings"))
    # The data lies in the working directory, so its places are relative to it.
    assert [meta.pop("root"), meta.pop("eval")] == ["raw", "raw/eval"]
    # Added since; the format is the same without it.
    assert meta.pop("skipped") is None
    assert "opencv" in meta.pop("checked_by")
    tables = {name: sha256(PREPARED / name) for name in ("images.csv", "folds.csv", "eval.csv")}
    assert meta.pop("tables") == tables
    assert meta == {key: value for key, value in stored_meta.items() if key not in ("root", "eval")}


def test_prediction_needs_no_data(stored):
    photos = sorted(Path("raw/eval/images").iterdir())[:5]
    shutil.rmtree("prepared")
    table = maskfold.load_run(stored).predict(photos, ("none", "hflip"))
    expected = load_predictions(Path("expected/eval.npz")).aligned([photo.name for photo in photos])
    assert table.label.tolist() == expected.pred_labels.tolist()


def test_finished_folds_are_skipped(script, stored):
    """The command that trained the run trains nothing again. Its photos were decoded at reduced size."""
    assert "decode" not in (stored / "config.yaml").read_text()
    assert RunFolder(stored).config.data.decode == "reduced"
    refused(script("train", "stored.yaml", "--data.decode", "full"), "data.decode: started with reduced, now full")
    weights = (stored / "fold0" / "model.safetensors").read_bytes()
    done = script("train", "stored.yaml")
    assert done.code == 0, done.err
    assert done.err.count("already finished") == 2
    assert (stored / "fold0" / "model.safetensors").read_bytes() == weights
