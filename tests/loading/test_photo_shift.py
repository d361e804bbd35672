"""The warning that eval photos differ from training photos: on small photos, and with submit.py and evaluate.py."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import tiny_args

from maskfold.data.images_table import Prepared
from maskfold.loading import photo_shift
from maskfold.loading.photo_shift import SHIFT_FILE, check_shift, measure_shift, sample_photos, shift_warning
from maskfold.loading.photo_statistics import STATISTICS
from maskfold.metrics import two_sample
from maskfold.metrics.two_sample import MIN_COMPARED_PEOPLE, SPLITS, compare_samples
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
    # Text that no encoding can write.
    lambda text: text.replace('"differences": [', r'"differences": ["\ud800", '),
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
    assert measure_shift(train, people, evaluation, 30)["differences"] == ["blurrier", "smoother", "brighter"]
    assert measure_shift(train, people, rng.permutation(train), 30)["differences"] == []


def test_a_warning_without_a_single_large_difference_is_a_sentence():
    warning = shift_warning({"auc": 0.9, "threshold": 0.6, "differs": True, "differences": []})
    assert "The eval photos are" not in warning
    assert "  " not in warning


def test_photos_are_not_read_for_too_few_people(prepared, monkeypatch):
    monkeypatch.setattr(photo_shift, "statistics_of_file", lambda path: pytest.fail(f"{path} is read"))
    few_eval = replace(prepared, evaluation=prepared.eval_table[: 7 * MIN_COMPARED_PEOPLE - 4])
    few_train = replace(prepared, folds=prepared.folds[: 2 * MIN_COMPARED_PEOPLE - 1])
    assert check_shift(few_eval) == check_shift(few_train) == (None, [])


def test_that_too_few_people_can_be_compared_is_kept(prepared, monkeypatch):
    """Here one person too few, whose photos can't be read."""
    monkeypatch.setattr(two_sample, "MIN_COMPARED_PEOPLE", 12)
    for path in prepared.photo_paths(prepared.images[:7]):
        path.unlink()
    assert check_shift(prepared) == (None, [])
    assert json.loads((prepared.folder / SHIFT_FILE).read_text())["shift"] is None
    monkeypatch.setattr(photo_shift, "statistics_of_file", lambda path: pytest.fail(f"{path} is read"))
    assert check_shift(prepared) == (None, [])


@pytest.mark.parametrize("folder", ["train", "eval"])
def test_missing_folders_give_a_note(prepared, folder):
    (prepared.root / folder).rename(prepared.root / "elsewhere")
    del prepared.__dict__["root"]
    shift, [note] = check_shift(prepared)
    assert shift is None
    assert note.startswith("note:")
    assert "--data.root" in note
    assert not (prepared.folder / SHIFT_FILE).exists()


@pytest.mark.parametrize("of_train", [True, False])
def test_most_photos_of_both_sets_must_be_readable(prepared, of_train):
    table = prepared.images if of_train else prepared.eval_table
    for path in prepared.photo_paths(table)[: round(0.6 * len(table))]:
        path.unlink()
    shift, [note] = check_shift(prepared)
    assert shift is None
    assert note.startswith("note:")


def tables(num_train, num_eval):
    """Prepared tables of people with seven photos each, without files."""
    people = np.repeat([f"{person:04d}" for person in range(num_train)], 7)
    images = pd.DataFrame({"image_id": range(len(people)), "path": "", "person_id": people})
    evaluation = pd.DataFrame({"image_id": range(7 * num_eval), "path": ""})
    return Prepared(Path("p"), images, pd.DataFrame({"person_id": np.unique(people)}), evaluation, {})


@pytest.mark.parametrize(
    ("num_train", "num_eval", "min_people", "max_people"),
    [(2700, 1800, 1000, 1400), (400, 200, 380, 400), (200, 100, 200, 200), (900, 100, 200, 200), (60, 20, 60, 60)],
)
def test_samples_have_as_many_photos_of_a_person(num_train, num_eval, min_people, max_people):
    """With 100 eval people all photos, with 200 half of them, with 1,800 at most one or two of a person."""
    images, evaluation = sample_photos(tables(num_train, num_eval))
    assert len(evaluation) == min(700, 7 * num_eval)
    assert len(images) == min(1400, 7 * num_train)
    assert min_people <= images.person_id.nunique() <= max_people
    assert images.index.is_monotonic_increasing


def compare_populations(seed, num_train, num_eval, change):
    """Compare simulated statistics, 8 per photo, whose correlation within a person is 0.8; change: of the eval photos."""
    rng = np.random.default_rng(seed)
    people, statistics = num_train + num_eval, 8
    of_person, of_photo = rng.normal(size=(people, statistics)), rng.normal(size=(7 * people, statistics))
    values = np.sqrt(0.8) * of_person.repeat(7, 0) + np.sqrt(0.2) * of_photo
    images, evaluation = sample_photos(tables(num_train, num_eval))
    train, evaluated = values[images.index], values[7 * num_train :][evaluation.index] + change
    return compare_samples(train, images.person_id.to_numpy(), evaluated, num_eval)


SIZES = [(2700, 1800), (300, 1000), (80, 40)]


@pytest.mark.slow
@pytest.mark.parametrize(("num_train", "num_eval"), SIZES)
def test_random_splits_of_a_population_raise_at_most_one_warning_in_20(num_train, num_eval, monkeypatch):
    monkeypatch.setattr(two_sample, "SPLITS", SPLITS)
    assert sum(compare_populations(seed, num_train, num_eval, 0).differs for seed in range(20)) <= 1


def test_small_shifts_of_a_large_eval_set_are_found(monkeypatch):
    """An AUC below .67, the threshold for the photos of 100 people."""
    monkeypatch.setattr(two_sample, "SPLITS", SPLITS)
    results = [compare_populations(seed, 2700, 1800, np.array([0.4, 0.4, 0, 0, 0, 0, 0, 0])) for seed in range(5)]
    assert all(result.differs for result in results)
    assert np.mean([result.auc for result in results]) < 0.67


def test_a_few_people_are_not_compared(script, run):
    done = script("submit", run, "--out", "a.csv")
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
