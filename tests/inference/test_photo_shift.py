"""The warning that eval photos differ from training photos: on small photos, and with submit.py and evaluate.py."""

import errno
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import tiny_args

from maskfold.data.images_table import Prepared
from maskfold.inference import photo_shift
from maskfold.inference.photo_shift import SHIFT_FILE, check_shift, measure_shift, shift_warning
from maskfold.loading.photo_statistics import STATISTICS
from maskfold.metrics import two_sample
from maskfold.synthetic.demo_data import make_demo


@pytest.fixture(autouse=True)
def few_splits(monkeypatch):
    monkeypatch.setattr(two_sample, "SPLITS", 20)


def write_people(folder, people, seed):
    """Seven photos of 48 x 40 per person, whose colours and texture are the person's. Returns their names."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    names = []
    for person in range(people):
        base, scale = rng.uniform(90, 160, 3), rng.uniform(10, 30)
        for number in range(7):
            texture = cv2.resize(rng.normal(0, scale, (24, 20, 3)), (40, 48)) + rng.normal(0, 4, (48, 40, 3))
            image = np.clip(base + texture, 0, 255).astype(np.uint8)
            names.append(f"{seed}-{person}-{number}.png")
            cv2.imwrite(str(folder / names[-1]), image)
    return names


@pytest.fixture
def prepared(tmp_path):
    """24 training people and 12 eval people of one population; the folder and its tables, without a store."""
    train, evaluation = (
        write_people(tmp_path / "raw" / "train", 24, 0),
        write_people(tmp_path / "raw" / "eval" / "images", 12, 1),
    )
    images = pd.DataFrame({"image_id": train, "path": [f"train/{name}" for name in train]})
    images["person_id"] = [name.rsplit("-", 1)[0] for name in train]
    folds = pd.DataFrame({"person_id": images.person_id.unique(), "fold": 0})
    (tmp_path / "raw" / "eval" / "info.csv").write_text("ImageID,ans\n")
    table = pd.DataFrame({"image_id": evaluation, "path": [f"eval/images/{name}" for name in evaluation]})
    meta = {
        "root": str(tmp_path / "raw"),
        "eval": str(tmp_path / "raw" / "eval"),
        "fingerprint": "a",
        "eval_fingerprint": "b",
    }
    (tmp_path / "prepared").mkdir()
    return Prepared(tmp_path / "prepared", images, folds, table, meta)


def blur_eval(prepared):
    for path in prepared.photo_paths(prepared.eval_table):
        cv2.imwrite(str(path), cv2.GaussianBlur(cv2.imread(str(path)), (0, 0), 1.5))


def test_photos_of_one_population_give_no_warning(prepared):
    shift, lines = check_shift(prepared)
    assert lines == []
    assert not shift["differs"]
    assert shift["differences"] == []
    assert shift["auc"] <= shift["threshold"]


def test_blurred_eval_photos_give_a_warning(prepared):
    blur_eval(prepared)
    shift, [warning] = check_shift(prepared)
    assert shift["differs"]
    assert shift["auc"] > 0.95
    assert "blurrier" in shift["differences"]
    assert warning.startswith("warning:")
    assert "blurrier" in warning
    assert f"{shift['auc']:.2f}" in warning


def test_the_result_is_kept_for_the_same_photos(prepared, monkeypatch):
    first = check_shift(prepared)
    blur_eval(prepared)
    assert check_shift(prepared) == first
    prepared.meta["eval_fingerprint"] = "c"
    assert check_shift(prepared)[0]["differs"]
    prepared.meta["eval_fingerprint"] = "b"
    assert check_shift(prepared)[0]["differs"]
    monkeypatch.setattr(photo_shift, "SHIFT_VERSION", 99)
    (prepared.folder / SHIFT_FILE).write_text(
        (prepared.folder / SHIFT_FILE).read_text().replace('"differs": true', '"differs": false')
    )
    assert check_shift(prepared)[0]["differs"]


DAMAGES = (
    lambda text: text[:40],
    lambda text: "[]",
    lambda text: text.replace('"auc": ', '"acu": '),
    lambda text: text.replace('"differs": ', '"differs": 1, "other": '),
    lambda text: text.replace('"differences": [', '"differences": [7, '),
    lambda text: "\udcff",
)


def test_a_damaged_result_is_measured_again(prepared):
    blur_eval(prepared)
    expected = check_shift(prepared)
    path = prepared.folder / SHIFT_FILE
    for damage in DAMAGES:
        path.write_bytes(damage(path.read_text()).encode(errors="surrogateescape"))
        assert check_shift(prepared) == expected
        assert json.loads(path.read_text())["shift"] == expected[0]


def test_a_prepared_folder_that_cannot_be_written_is_no_error(prepared, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(photo_shift, "write_json", refuse)
    shift, lines = check_shift(prepared)
    assert not shift["differs"]
    assert lines == []
    assert not (prepared.folder / SHIFT_FILE).exists()


def test_some_unreadable_photos_are_left_out(prepared):
    blur_eval(prepared)
    paths = prepared.photo_paths(prepared.images)[::20] + prepared.photo_paths(prepared.eval_table)[::20]
    for path in paths[1:]:
        path.write_bytes(path.read_bytes()[:50])
    paths[0].unlink()
    assert check_shift(prepared)[0]["differs"]


def test_missing_photos_give_a_note(prepared):
    paths = prepared.photo_paths(prepared.images)
    for path in paths:
        path.unlink()
    shift, [note] = check_shift(prepared)
    assert shift is None
    assert note.startswith("note:")
    assert str(paths[0].parent) in note
    assert not (prepared.folder / SHIFT_FILE).exists()


def test_data_without_eval_photos_is_not_compared(prepared):
    without = Prepared(prepared.folder, prepared.images, prepared.folds, None, prepared.meta)
    assert check_shift(without) == (None, [])


def test_at_most_three_differences_are_named_each_once():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(30), 7)
    train, evaluation = rng.normal(size=(2, 210, len(STATISTICS)))
    for number, name in enumerate(("detail_across", "detail_down", "noise", "brightness", "red")):
        evaluation[:, STATISTICS.index(name)] += (-6, -5, -4, 3, 2)[number]
    assert measure_shift(train, people, evaluation)["differences"] == ["blurrier", "smoother", "brighter"]
    assert measure_shift(train, people, rng.permutation(train))["differences"] == []


def test_a_warning_without_a_single_large_difference_is_a_sentence():
    warning = shift_warning({"auc": 0.9, "threshold": 0.6, "differs": True, "differences": []})
    assert "The eval photos are" not in warning
    assert "  " not in warning


def test_a_few_people_are_not_compared(script, trained):
    done = script("submit", trained.run.folder, "--out", "a.csv")
    assert done.code == 0, done.err
    assert json.loads(Path("a.json").read_text())["shift"] is None
    assert "eval photos differ" not in done.out + done.err


@pytest.mark.slow
def test_submit_and_evaluate_warn(script, tmp_path):
    """The eval photos of the demo, re-encoded with quality 30; then the data is moved away."""
    raw = tmp_path / "raw"
    make_demo(raw, 40, 20, seed=1)
    for path in (raw / "eval" / "images").glob("[!.]*.jpg"):
        cv2.imwrite(str(path), cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 30])
    done = script("train", *tiny_args(raw, "--name", "a", "--optim.epochs", 1, "--data.prepared", "p"))
    assert done.code == 0, done.err
    done = script("evaluate", "a")
    assert done.code == 0, done.err
    assert done.out.count("the eval photos differ") == 1
    assert "blockier" in done.out
    done = script("submit", "a", "--out", "a.csv")
    assert done.code == 0, done.err
    assert done.out.count("the eval photos differ") == 1
    shift = json.loads(Path("a.json").read_text())["shift"]
    assert shift["differs"]
    assert shift == json.loads(Path("p", SHIFT_FILE).read_text())["shift"]
    assert script("submit", "--from", "a.json").code == 0
    Path("p").rename("elsewhere")
    done = script("evaluate", "a")
    assert done.code == 0, done.err
    assert "the eval photos differ" not in done.out
