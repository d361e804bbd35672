"""A finished run is recognised without torch, and everything else is left to training."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_args, tiny_config

from maskfold.evaluation.finished_run import finished_repeats, finished_run
from maskfold.fileio import sha256, write_json
from maskfold.probabilities import load_predictions
from maskfold.runs.run_folder import RunFolder
from maskfold.runs.summary import summarise
from maskfold.training import fit
from maskfold.training.fit import fit_repeats
from maskfold.training.fold_job import TrainRequest


@pytest.fixture
def request_of(trained, run):
    """The request of the command that trained the run, for a copy of it: request_of(*flags, folds=...)."""

    def call(*flags: object, **fields: object):
        config = tiny_config(trained.raw, "--data.prepared", trained.prepared, *flags)
        return finished_run(config, "tiny", TrainRequest(out=run, **fields))

    return call


def test_a_finished_run_is_recognised(request_of, run, trained, capsys):
    folder, summary = request_of()
    assert folder.folder == run
    assert summary == trained.summary
    assert capsys.readouterr().err.splitlines() == ["fold0: already finished", "fold1: already finished"]
    assert request_of(folds=[1]) is not None
    # Neither changes a result.
    assert request_of("--data.num_workers", 2, "--run.precision", "fp32") is not None
    # The number that the run has recorded stands for auto.
    assert request_of("--optim.accum_steps", "auto") is not None


def rename(folder: Path, name: str) -> None:
    """Rename a run, also in its summary."""
    renamed = folder.rename(folder.with_name(name))
    write_json(renamed / "summary.json", summarise(RunFolder(renamed)))


def test_finished_repeats_are_recognised(run, other, trained, monkeypatch, capsys):
    """The same results and lines as those of fit_repeats; if one repeat is not finished, nothing is printed."""
    monkeypatch.setenv("SM_MODEL_DIR", str(run.parent))
    for folder, seed in ((run, 42), (other, 43)):
        rename(folder, f"tiny-s{seed}")
    config = tiny_config(trained.raw, "--data.prepared", trained.prepared)
    finished = finished_repeats(config, "tiny", (42, 43), TrainRequest())
    assert capsys.readouterr().err == ""
    results, err = list(finished), capsys.readouterr().err
    assert err.splitlines()[::3] == ["run 1 of 2: tiny-s42", "run 2 of 2: tiny-s43"]
    expected = list(fit_repeats(config, "tiny", (42, 43), TrainRequest()))
    assert [(folder.folder, summary) for folder, summary in results] == [
        (folder.folder, summary) for folder, summary in expected
    ]
    assert capsys.readouterr().err == err
    assert finished_repeats(config, "tiny", (42, 44), TrainRequest()) is None
    assert capsys.readouterr().err == ""


def test_finished_repeats_are_not_trained(script, run, trained, monkeypatch):
    rename(run, "tiny-s42")
    monkeypatch.setattr(fit, "fit_repeats", None)
    words = tiny_args(trained.raw, "--data.prepared", trained.prepared, "--name", "tiny", "--seeds", 42)
    done = script("train", *words)
    assert done.code == 0, done.err
    assert "tiny-s42: out-of-fold macro F1" in done.out


def test_what_is_not_finished_or_differs_is_left_to_training(request_of, run, trained, monkeypatch):
    assert request_of("--optim.lr", 0.5) is None
    assert request_of(folds=[7]) is None
    assert request_of(refit=True) is None
    assert request_of(fresh=True) is None
    assert request_of("--data.corrections", run / "missing.csv") is None
    assert request_of("--data.prepared", run / "missing") is None
    with monkeypatch.context() as patch:
        patch.setenv("LOCAL_RANK", "0")
        assert request_of() is None
    assert request_of() is not None
    shutil.rmtree(run / "fold1")
    assert request_of() is None


@pytest.mark.parametrize("name", ["summary.json", "oof.npz", "provenance.json", "config.yaml", "fold0/metrics.jsonl"])
def test_missing_and_damaged_files_are_left_to_training(request_of, run, name):
    (run / name).write_bytes(b"{}")
    assert request_of() is None
    (run / name).unlink()
    assert request_of() is None


def test_an_outdated_summary_is_written_by_training(request_of, run):
    """A fold was trained again, but the command was killed before it wrote the summary."""
    oof = load_predictions(run / "fold1" / "oof.npz", out_of_fold=True)
    np.savez(run / "fold1" / "oof.npz", **{**vars_of(oof), "probs": oof.probs[:, ::-1]})
    assert request_of() is None


def test_other_data_is_left_to_training(request_of, run):
    path = run / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"identity": "0" * 16}))
    assert sha256(run / "config.yaml") == json.loads(path.read_text())["config_sha256"]
    assert request_of() is None


def vars_of(oof) -> dict:
    return {name: value for name, value in vars(oof).items() if value is not None}


def test_a_moved_run_is_recognised(run, trained, tmp_path):
    moved = Path(shutil.copytree(run, tmp_path / "elsewhere" / "tiny"))
    config = tiny_config(trained.raw, "--data.prepared", trained.prepared)
    assert finished_run(config, "tiny", TrainRequest(out=moved)) is not None


@pytest.mark.parametrize("text", ["person_id,fold\n,1\nx\n", f"person_id,fold\n{'x' * 200_000},0\n"])
def test_folds_that_cannot_be_read_are_left_to_training(request_of, trained, tmp_path, text):
    """A row without a fold; a cell that is too long for the csv module."""
    prepared = Path(shutil.copytree(trained.prepared, tmp_path / "p"))
    assert request_of("--data.prepared", prepared) is not None
    (prepared / "folds.csv").write_text(text)
    assert request_of("--data.prepared", prepared) is None


@pytest.mark.parametrize("name", ["images.csv", "folds.csv", "eval.csv"])
def test_damaged_tables_are_left_to_training(request_of, trained, tmp_path, name):
    prepared = Path(shutil.copytree(trained.prepared, tmp_path / "p"))
    assert request_of("--data.prepared", prepared) is not None
    path = prepared / name
    path.write_text(path.read_text() + "x,x\n")
    assert request_of("--data.prepared", prepared) is None
    path.unlink()
    assert request_of("--data.prepared", prepared) is None


def test_a_folder_of_an_older_version_is_left_to_training(request_of, trained, tmp_path):
    """Its dataset.json has no hashes of the tables; prepare.py adds them."""
    prepared = Path(shutil.copytree(trained.prepared, tmp_path / "p"))
    meta = json.loads((prepared / "dataset.json").read_text())
    del meta["tables"]
    (prepared / "dataset.json").write_text(json.dumps(meta))
    assert request_of("--data.prepared", prepared) is None


@pytest.mark.parametrize("key", ["precision", "predict_precision"])
def test_what_needs_a_gpu_is_left_to_training(request_of, run, key):
    assert request_of("--run.device", "cuda") is None
    config, provenance = run / "config.yaml", json.loads((run / "provenance.json").read_text())
    text, count = re.subn(rf"\b{key}: \w+", f"{key}: fp16", config.read_text())
    assert count == 1
    config.write_text(text)
    (run / "provenance.json").write_text(json.dumps(provenance | {"config_sha256": sha256(config)}))
    assert request_of() is None
