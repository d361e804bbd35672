"""predict.py: label any photos with finished runs; the labels are those of submit.py."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, first_quick, refused, tiny_config
from support import read_only_mount

import maskfold
from maskfold.fileio import sha256
from maskfold.inference.loaded_run import read_input
from maskfold.labels import encode_label
from maskfold.new_photos import predictions_csv
from maskfold.new_photos.input_reader import preprocessing_key, read_chunks
from maskfold.new_photos.photo_list import list_photos

TTA = ("--tta", "none", "hflip")
PROBS = ["p_mask_worn", "p_mask_incorrect", "p_mask_not_worn", "p_male", "p_female"]
PROBS += ["p_age_under_30", "p_age_30_59", "p_age_60_plus"]
COLUMNS = ["path", "label", "mask", "gender", "age", *PROBS, "error"]


@pytest.fixture
def photos(trained) -> Path:
    """The folder of the eval photos."""
    return trained.raw / "eval" / "images"


def submitted(path: str, table: pd.DataFrame) -> list[int]:
    """The labels of a submission for the photos of a table of predictions."""
    label_by_name = pd.read_csv(path, index_col="ImageID").ans
    assert len(label_by_name) == len(table)
    return [label_by_name[Path(photo).name] for photo in table.path]


@pytest.mark.parametrize("decision", first_quick("argmax", "macro-f1"))
def test_the_labels_are_those_of_submissions(script, run, other, photos, decision):
    """For one run, for two runs that are blended, and for a manifest; the runs may have been renamed."""
    for runs, name in (((run,), "one"), ((run, other), "two")):
        assert script("submit", *runs, *TTA, "--decision", decision, "--out", f"{name}.csv").code == 0
    done = script("predict", run, "--photos", photos, *TTA)
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "predictions: predictions.csv"
    one = pd.read_csv("predictions.csv")
    assert list(one) == COLUMNS
    assert one.path.tolist() == [str(path) for path in sorted(photos.glob("[!.]*.*"))]
    assert one.error.isna().all()
    if decision == "argmax":
        assert one.label.tolist() == submitted("one.csv", one)
        assert script("predict", run, other, "--photos", photos, *TTA, "--out", "new/two.csv").code == 0
        two = pd.read_csv("new/two.csv")
        assert two.label.tolist() == submitted("two.csv", two)
    # The manifest sets the views. The probabilities are calibrated, but not multiplied by the factors of the decision.
    assert script("predict", "--from", "two.json", "--photos", photos, "--out", "from.csv").code == 0
    blended = pd.read_csv("from.csv")
    assert blended.label.tolist() == submitted("two.csv", blended)
    assert other.rename(other.with_name("renamed")).exists()
    renamed = other.with_name("renamed"), run
    assert script("predict", *renamed, "--from", "two.json", "--photos", photos, "--out", "again.csv").code == 0
    assert Path("again.csv").read_bytes() == Path("from.csv").read_bytes()


def test_the_table_is_that_of_load_run(script, run, photos):
    paths = sorted(photos.glob("[!.]*.*"))[:20]
    assert script("predict", run, "--photos", *paths).code == 0
    table = pd.read_csv("predictions.csv", dtype={"error": str})
    expected = maskfold.load_run(run).predict(paths)
    pd.testing.assert_frame_equal(table[list(expected)], expected, check_dtype=False, rtol=1e-6)
    np.testing.assert_allclose(table[PROBS[3:5]].sum(axis=1), 1, atol=1e-5)
    names = (("worn", "incorrect", "not worn"), ("male", "female"), ("under 30", "30-59", "60 and over"))
    axes = zip(names, (table["mask"], table["gender"], table["age"]), strict=True)
    assert table.label.tolist() == encode_label(*(column.map(axis.index) for axis, column in axes)).tolist()


def test_files_that_cannot_be_read_get_a_row_with_the_error(script, run, photos, tmp_path):
    """The predictions of the other photos do not change; the run is not written to."""
    folder = tmp_path / "사진 photos"
    (folder / "b" / "deep").mkdir(parents=True)
    good = sorted(photos.glob("[!.]*.*"))[:8]
    content = good[0].read_bytes()
    for number, path in enumerate(good):
        shutil.copy(path, folder / ("b/deep" if number % 2 else "") / f"{number}{path.suffix}")
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "b" / "empty.PNG").touch()
    (folder / "b" / "text.jpeg").write_text("not a photo")
    (folder / "c.webp").write_bytes(b"RIFF\x00\x00\x00\x00WEBPVP8 ")
    (folder / "._0.jpg").touch()
    (folder / "notes.txt").touch()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    done = script("predict", run, "--photos", folder)
    assert done.code == 0, done.err
    assert done.err.count("warning:") == 1
    assert "4 of 12 photos can't be read" in done.err
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    table = pd.read_csv("predictions.csv", dtype={"label": "Int64"})
    names = [str(Path(path).relative_to(folder)) for path in table.path]
    assert names == sorted(names, key=lambda name: Path(name).parts)
    failed = table[table.error.notna()]
    assert sorted(Path(path).name for path in failed.path) == ["c.webp", "empty.PNG", "text.jpeg", "truncated.jpg"]
    assert failed.drop(columns=["path", "error"]).isna().all(axis=None)
    assert "truncated" in failed.set_index("path").error[str(folder / "truncated.jpg")]
    assert "WebP" in failed.set_index("path").error[str(folder / "c.webp")]
    whole = table[table.error.isna()]
    alone = maskfold.load_run(run).predict(whole.path.tolist())
    assert whole.label.tolist() == alone.label.tolist()
    np.testing.assert_allclose(whole[PROBS], alone[PROBS], atol=1e-6)
    [total] = [line for line in done.out.splitlines() if " all " in line]
    assert "8" in total


def test_a_table_of_paths(script, run, photos, tmp_path):
    """Relative to the folder of the table, then to the working directory. A repeated photo keeps its rows."""
    one, two, *_ = sorted(photos.glob("[!.]*.jpg"))
    (tmp_path / "lists" / "x").mkdir(parents=True)
    shutil.copy(one, tmp_path / "lists" / "x" / "one.jpg")
    shutil.copy(two, tmp_path / "two, 둘.jpg")
    text = f"id;Path\n1;x/one.jpg\n2;two, 둘.jpg\n3;{two}\n4;x/one.jpg\n5;gone.jpg\n"
    (tmp_path / "lists" / "a.csv").write_text(text, encoding="utf-8-sig")
    done = script("predict", run, "--photos", "lists/a.csv", two)
    assert done.code == 0, done.err
    table = pd.read_csv("predictions.csv")
    assert table.path[:4].tolist() == ["lists/x/one.jpg", "two, 둘.jpg", str(two), "lists/x/one.jpg"]
    assert table.error.notna().tolist() == [False, False, False, False, True, False]
    assert table.label[0] == table.label[3]
    assert len(set(table.label[[1, 2, 5]])) == 1


def test_what_cannot_be_predicted_leaves_no_file(script, run, other, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("file\na.jpg\n")
    photo = next(photos.glob("[!.]*.jpg"))
    refused(script("predict", run, "--photos", "empty"), "--photos empty", "there are no photos")
    refused(script("predict", run, "--photos", "gone.jpg", "bad.png"), "none of the 2 photos", "gone.jpg: not found")
    refused(script("predict", run, "--photos", "bad.csv"), "bad.csv", "path")
    refused(script("predict", run), "--photos")
    refused(script("predict", "--photos", photo), "give runs, or --from")
    refused(script("predict", run, "--photos", photo, "--tta", "mirror"), "--tta mirror", "hflip")
    refused(script("predict", "nope", "--photos", photo), "nope", "not a run folder")
    refused(script("predict", run, "--photos", photo, "--out", "empty"), "--out", "is a folder")
    refused(script("predict", run, "--photos", "bad.csv", "--out", "bad.csv"), "--out bad.csv", "overwrite")
    assert script("submit", run, "--out", "a.csv").code == 0
    refused(script("predict", "--from", "a.json", "--photos", photo, "--tta", "none"), "--tta has no effect")
    refused(script("predict", other, "--from", "a.json", "--photos", photo), "a.json", "checkpoints", "tiny")
    refused(script("predict", run, other, "--from", "a.json", "--photos", photo), "other", "leave it out")
    shutil.copy(other / "fold1" / "model.safetensors", run / "fold1" / "model.safetensors")
    refused(script("predict", "--from", "a.json", "--photos", photo), "fold1", "has changed")
    assert not Path("predictions.csv").exists()
    assert not list(tmp_path.glob(".*.csv"))


def test_photos_of_all_sizes_are_read_as_for_validation(trained, tmp_path):
    """For each crop: the input of a photo is the same in threads, in load_run and in a store; equal crops share it."""
    rng = np.random.default_rng(0)
    for number, size in enumerate([(1, 1), (3, 500), (512, 384), (1500, 40)]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 256, (*size, 3), np.uint8))
    paths = list_photos([tmp_path])
    configs = [tiny_config(trained.raw, "--data.crop", crop).data for crop in ("none", "center", "face", "none")]
    configs[3] = configs[3].model_copy(update={"augment": "none"})
    chunks = list(read_chunks(paths, configs, 3))
    assert [len(chunk) for chunk in chunks] == [3, 1]
    assert len(chunks[0][0].by_key) == 3
    for path, inputs in zip(paths, [inputs for chunk in chunks for inputs in chunk], strict=True):
        assert not inputs.error
        for data in configs:
            assert np.array_equal(inputs.by_key[preprocessing_key(data)], read_input(path, data))


def test_memory_does_not_grow_with_the_photos(script, run, photos, monkeypatch, tmp_path):
    """Only a few chunks are read ahead, and each chunk is written before the next one is predicted."""
    photo = next(photos.glob("[!.]*.jpg"))
    (tmp_path / "many.csv").write_text("path\n" + f"{photo}\n" * 200)
    monkeypatch.setattr(predictions_csv, "MAX_CHUNK_PHOTOS", 8)
    sizes, predict_chunk = [], predictions_csv._predict_chunk

    def spy(ensemble, paths, chunk, keys):
        sizes.append(len(chunk))
        return predict_chunk(ensemble, paths, chunk, keys)

    monkeypatch.setattr(predictions_csv, "_predict_chunk", spy)
    assert script("predict", run, "--photos", "many.csv").code == 0
    assert sizes == [8] * 25
    assert len(pd.read_csv("predictions.csv")) == 200


@pytest.mark.slow
def test_a_read_only_copy_of_the_run_alone(trained, photos, tmp_path):
    """Without the data, from a disk that cannot be written to, in a process of its own."""
    home = tmp_path / "elsewhere"
    shutil.copytree(trained.run.folder, home / "run")
    command = [
        sys.executable,
        ROOT / "scripts" / "predict.py",
        home / "run",
        "--photos",
        photos,
        "--out",
        tmp_path / "a.csv",
    ]
    words = [*read_only_mount(home), *map(str, command)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "a.csv")) == len(list(photos.glob("[!.]*.*")))
    assert (
        sha256(home / "run" / "config.yaml")
        == json.loads((home / "run" / "provenance.json").read_text())["config_sha256"]
    )
