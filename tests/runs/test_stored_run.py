"""A run that an earlier version of maskfold wrote is evaluated, submitted, reported, audited and used by this one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import maskfold
from maskfold import format_version
from maskfold.fileio import sha256
from maskfold.inference import forward
from maskfold.probabilities import load_predictions
from maskfold.runs.run_folder import RunFolder
from maskfold.runs.summary import summarise

STORED = ROOT / "tests" / "runs" / "stored_run"
RUN, PREPARED, VIEWS = Path("runs/stored"), Path("prepared"), ("--tta", "none", "hflip")
# Where the run was made.
MADE_IN = "/tmp/stored"


@pytest.fixture
def stored(script, tmp_path) -> Path:
    """A copy of the stored run in the working directory; only the paths in it are changed."""
    shutil.copytree(STORED, tmp_path, dirs_exist_ok=True)
    for path in (RUN / "config.yaml", PREPARED / "dataset.json"):
        path.write_text(path.read_text().replace(MADE_IN, str(tmp_path)))
    provenance = RUN / "provenance.json"
    content = json.loads(provenance.read_text()) | {"config_sha256": sha256(RUN / "config.yaml")}
    provenance.write_text(json.dumps(content))
    return RUN


def same_predictions(made: str, expected: str) -> None:
    found, known = (load_predictions(path) for path in (RUN / made, Path("expected", expected)))
    assert found.image_id.tolist() == known.image_id.tolist()
    np.testing.assert_allclose(found.probs, known.probs, atol=1e-5)


def test_it_is_of_the_first_format():
    for path in (STORED / RUN / "provenance.json", STORED / PREPARED / "dataset.json"):
        assert "format" not in json.loads(path.read_text())


def test_it_is_evaluated(script, stored):
    known = json.loads((stored / "summary.json").read_text())
    done = script("evaluate", "stored")
    assert done.code == 0, done.err
    assert f"{known['oof']['macro_f1']:.4f}" in done.out
    summary = summarise(RunFolder(stored))
    for scores, stored_scores in ((summary["oof"], known["oof"]), *zip(summary["folds"], known["folds"], strict=True)):
        assert scores == {key: pytest.approx(value) for key, value in stored_scores.items()}


def test_it_is_submitted(script, stored):
    done = script("submit", "stored", *VIEWS, "--out", "new.csv")
    assert done.code == 0, done.err
    assert Path("new.csv").read_bytes() == Path("expected/submission.csv").read_bytes()
    same_predictions("eval-none+hflip.npz", "eval.npz")
    same_predictions("oof-none+hflip.npz", "oof.npz")


def test_its_cached_predictions_are_used(script, stored, monkeypatch):
    monkeypatch.setattr(forward, "forward", None)
    for name in ("eval", "oof"):
        shutil.copy(f"expected/{name}.npz", stored / f"{name}-none+hflip.npz")
    done = script("submit", "stored", *VIEWS, "--out", "new.csv")
    assert done.code == 0, done.err
    assert Path("new.csv").read_bytes() == Path("expected/submission.csv").read_bytes()


def test_it_is_reported_and_audited(script, stored):
    done = script("report", "stored")
    assert done.code == 0, done.err
    score = json.loads((stored / "summary.json").read_text())["oof"]["macro_f1"]
    assert f"macro F1 {score:.4f}" in (stored / "report.html").read_text()
    done = script("audit", "stored")
    assert done.code == 0, done.err
    assert (stored / "audit" / "suspects.csv").is_file()


def test_its_data_is_prepared_to_the_same_content(script, stored):
    """Same tables, same fingerprints: the run goes on with newly prepared data; only `format` is added."""
    done = script("prepare", "--data", "raw", "--out", "anew", "--folds", 2)
    assert done.code == 0, done.err
    for name in ("images.csv", "folds.csv", "eval.csv"):
        assert Path("anew", name).read_bytes() == (PREPARED / name).read_bytes()
    meta = json.loads(Path("anew/dataset.json").read_text())
    assert meta.pop("format") == format_version.PREPARED
    assert meta == json.loads((PREPARED / "dataset.json").read_text())


def test_it_predicts_without_its_data(stored):
    photos = sorted(Path("raw/eval/images").iterdir())[:5]
    shutil.rmtree("prepared")
    table = maskfold.load_run(stored).predict(photos, ("none", "hflip"))
    known = load_predictions(Path("expected/eval.npz")).aligned([photo.name for photo in photos])
    assert table.label.tolist() == known.pred_labels.tolist()


def test_its_finished_folds_stand(script, stored):
    """The command that trained it trains nothing anew."""
    weights = (stored / "fold0" / "model.safetensors").read_bytes()
    done = script("train", "stored.yaml")
    assert done.code == 0, done.err
    assert done.err.count("finished before") == 2
    assert (stored / "fold0" / "model.safetensors").read_bytes() == weights
