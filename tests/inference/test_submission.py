"""Submissions with scripts/submit.py and evaluate.py."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import first_quick, refused, tiny_args
from sklearn.metrics import f1_score
from support import line_with

from maskfold.errors import UserError
from maskfold.fileio import sha256
from maskfold.inference.submission_csv import check_submission
from maskfold.metrics.calibration import apply_temperature, fit_temperature
from maskfold.probabilities import load_predictions
from maskfold.runs.summary import SELECTED


@pytest.mark.parametrize("damage", first_quick("cut", "other photos", "unreadable"))
def test_damaged_cached_predictions_are_computed_again(script, run, damage):
    assert script("submit", run, "--out", "a.csv").code == 0
    path = run / "eval-none.npz"
    before = load_predictions(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "other photos":
        replace(before, image_id=np.array([f"x{name}" for name in before.image_id])).save(path)
    else:
        path.unlink()
        # The disk fails.
        path.symlink_to("/proc/self/mem")
    done = script("submit", run, "--out", "b.csv")
    assert done.code == 0, done.err
    assert "note: " in line_with(done.err, str(path), "computed again" if damage != "unreadable" else "cannot be read")
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    np.testing.assert_array_equal(load_predictions(path).probs, before.probs)


def test_a_submission_has_the_ids_of_info_csv_in_order(script, run, trained):
    done = script("submit", run, "--tta", "none", "hflip", "--out", "subs/a.csv")
    assert done.code == 0, done.err
    info, submission = pd.read_csv(trained.raw / "eval" / "info.csv"), pd.read_csv("subs/a.csv")
    assert list(submission) == ["ImageID", "ans"]
    assert submission.ImageID.tolist() == info.ImageID.tolist()
    assert submission.ans.between(0, 17).all()
    predictions = load_predictions(run / "eval-none+hflip.npz")
    by_id = dict(zip(predictions.image_id, predictions.probs.argmax(1), strict=True))
    assert submission.ans.tolist() == [by_id[name] for name in info.ImageID]
    manifest = json.loads(Path("subs/a.json").read_text())
    assert manifest["csv_sha256"] == sha256(Path("subs/a.csv"))
    assert manifest["tta"] == ["none", "hflip"]
    assert manifest["weights"] == [1.0]
    member = manifest["members"][0]
    assert (member["run"], member["folds"]) == ("tiny", [0, 1])
    assert member["checkpoints"]["fold1"] == sha256(run / "fold1" / "model.safetensors")
    oof = load_predictions(run / "oof-none+hflip.npz", out_of_fold=True)
    expected = f1_score(oof.label, oof.probs.argmax(1), labels=range(18), average="macro", zero_division=0)
    assert manifest["expected"]["macro_f1"] == pytest.approx(expected)
    assert manifest["dataset"] == trained.summary["dataset"]


def test_out_of_fold_without_tta_equals_training(script, run):
    assert script("submit", run, "--out", "a.csv").code == 0
    again, before = load_predictions(run / "oof-none.npz", True), load_predictions(run / "oof.npz", True)
    assert again.image_id.tolist() == before.image_id.tolist()
    np.testing.assert_array_equal(again.probs, before.probs)


def test_cached_predictions_are_used_until_a_checkpoint_changes(script, run):
    assert script("submit", run, "--out", "a.csv").code == 0
    stamp = (run / "eval-none.npz").stat().st_mtime_ns
    assert script("submit", run, "--out", "b.csv").code == 0
    assert (run / "eval-none.npz").stat().st_mtime_ns == stamp
    shutil.copy(run / "fold0" / "model.safetensors", run / "fold1" / "model.safetensors")
    assert script("submit", run, "--out", "c.csv").code == 0
    assert (run / "eval-none.npz").stat().st_mtime_ns != stamp


def test_runs_are_blended_by_id(script, run, trained, tmp_path):
    other = tmp_path / "runs" / "other"
    shutil.copytree(run, other)
    assert script("submit", run, other, "--out", "a.csv").code == 0
    # The other member's file in another order, with random probabilities.
    first_run = load_predictions(run / "eval-none.npz")
    order = np.random.default_rng(0).permutation(len(first_run.image_id))
    probs = np.random.default_rng(1).dirichlet(np.ones(18), len(order)).astype(np.float32)
    before = load_predictions(other / "eval-none.npz")
    replace(before, image_id=first_run.image_id[order], probs=probs).save(other / "eval-none.npz")
    assert script("submit", run, other, "--out", "a.csv").code == 0
    submitted = pd.read_csv("a.csv").set_index("ImageID").ans
    manifest = json.loads(Path("a.json").read_text())
    first, second = manifest["temperatures"]
    # The out-of-fold predictions of both are equal, and so are the temperatures fitted on them.
    oof = load_predictions(run / "oof-none.npz", out_of_fold=True)
    assert first == second == fit_temperature(oof.probs, oof.label)
    for row, index in enumerate(order):
        mixed = apply_temperature(first_run.probs[[index]], first) + apply_temperature(probs[[row]], second)
        assert submitted[first_run.image_id[index]] == mixed.argmax()
    assert len(manifest["members"]) == 2
    refused(script("submit", run, run, "--out", "b.csv"), "twice")


def test_a_member_that_was_selected_on_its_validation_folds_is_named(script, run, trained, tmp_path):
    """Beside the expected score, which is then optimistically biased; not for a member that was not."""
    best = Path(shutil.copytree(run, tmp_path / "runs" / "best"))
    config, provenance = best / "config.yaml", json.loads((best / "provenance.json").read_text())
    config.write_text(config.read_text().replace("keep: last", "keep: best"))
    (best / "provenance.json").write_text(json.dumps(provenance | {"config_sha256": sha256(config)}))
    plain = script("submit", run, "--out", "a.csv")
    assert plain.code == 0, plain.err
    assert SELECTED not in plain.out
    blended = script("submit", run, best, "--out", "b.csv")
    assert blended.code == 0, blended.err
    [line] = [line for line in blended.out.splitlines() if SELECTED in line]
    assert "best" in line
    assert "tiny" not in line


def test_a_run_by_its_name_and_the_organisers_output_folder(script, run, monkeypatch, tmp_path):
    monkeypatch.setenv("SM_OUTPUT_DATA_DIR", str(tmp_path / "output"))
    done = script("submit", "tiny")
    assert done.code == 0, done.err
    assert (tmp_path / "output" / "tiny.csv").exists()


def test_missing_files_are_named(script, run):
    (run / "fold1" / "model.safetensors").unlink()
    refused(script("submit", run, "--out", "a.csv"), "fold1", "model.safetensors")
    (run / "oof.npz").write_bytes(b"broken")
    refused(script("evaluate", run), "oof.npz")
    shutil.rmtree(run / "fold0")
    shutil.rmtree(run / "fold1")
    refused(script("submit", run, "--out", "a.csv"), str(run))


def test_data_without_an_eval_set_makes_no_submission(script, raw):
    shutil.rmtree(raw / "eval")
    assert script("train", *tiny_args(raw, "--name", "lone", "--folds", 0)).code == 0
    assert "none (no eval set)" in script("evaluate", "lone").out
    refused(script("submit", "lone", "--out", "a.csv"), "no eval set")


def test_a_faulty_submission_is_refused(tmp_path):
    info = tmp_path / "info.csv"
    info.write_text("ImageID,ans\na.jpg,0\nb.jpg,0\n")
    path = tmp_path / "s.csv"
    path.write_text("ImageID,ans\na.jpg,17\nb.jpg,3\n")
    assert check_submission(path, info).ans.tolist() == [17, 3]
    for text in (
        "b.jpg,3\na.jpg,17",
        "a.jpg,17",
        "a.jpg,18\nb.jpg,3",
        "a.jpg,1.0\nb.jpg,3",
        "a.jpg,\nb.jpg,3",
        "a.jpg,1\na.jpg,1",
    ):
        path.write_text(f"ImageID,ans\n{text}\n")
        with pytest.raises(UserError, match=r"s\.csv"):
            check_submission(path, info)
    path.write_text("ImageID,ans\na.jpg,x\nb.jpg,3\n")
    with pytest.raises(UserError, match="line 2") as error:
        check_submission(path, info)
    assert "line 3" not in str(error.value)


def test_nothing_is_written_after_an_error(script, run, tmp_path):
    """Two members of disjoint folds have no out-of-fold photo in common."""
    parts = []
    for fold in (0, 1):
        part = Path(shutil.copytree(run, tmp_path / "runs" / f"only{fold}"))
        shutil.rmtree(part / f"fold{1 - fold}")
        parts.append(part)
    refused(script("submit", *parts, "--out", "a.csv"), "no photo in common")
    assert not list(Path().glob("a.*"))
    (tmp_path / "dir.csv").mkdir()
    refused(script("submit", run, "--out", "dir.csv"), "dir.csv")
    both = script("submit", run, parts[0], "--out", "b.csv")
    assert "6 of 12 people" in both.out


def test_photos_are_read_once_for_all_models_and_views(script, run, tmp_path, monkeypatch):
    """Two runs of two folds with two views: each eval photo and each training photo is read from the store once."""
    from collections import Counter

    from maskfold.loading.store import Store

    twin, other = (Path(shutil.copytree(run, tmp_path / "runs" / name)) for name in ("twin", "alone"))
    read, original = Counter(), Store.__getitem__
    monkeypatch.setattr(
        Store, "__getitem__", lambda self, row: (read.update([(self.path, row)]), original(self, row))[1]
    )
    done = script("submit", run, twin, "--tta", "none", "hflip", "--out", "a.csv")
    assert done.code == 0, done.err
    assert len(read) == 18 * 7
    assert set(read.values()) == {1}
    assert script("submit", other, "--tta", "none", "hflip", "--out", "b.csv").code == 0
    both, one = (load_predictions(folder / "eval-none+hflip.npz").probs for folder in (twin, other))
    np.testing.assert_array_equal(both, one)
