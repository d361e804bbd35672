"""The synthetic dataset: layout, class frequencies, determinism, and no shortcut in single pixels."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import refused
from sklearn.tree import DecisionTreeClassifier

from maskfold.labels import KIND_MASK, age_group
from maskfold.synthetic.demo_data import NUM_REAL_PEOPLE, _ids, make_demo, sample_people
from maskfold.synthetic.rendering import render_photo, sample_appearance


def test_layout_and_irregularities(synthetic):
    table = pd.read_csv(synthetic / "train" / "train.csv", dtype=str)
    assert list(table.columns) == ["id", "gender", "race", "age", "path"]
    assert table.id.duplicated().sum() == 1
    assert table.id.str.endswith("-1").sum() == 1
    assert table.path.is_unique
    images = synthetic / "train" / "images"
    assert any(path.name.startswith("._") for path in images.iterdir())
    endings = Counter()
    for row in table.itertuples():
        assert row.path == f"{row.id}_{row.gender}_Asian_{row.age}"
        photos = [path for path in (images / row.path).iterdir() if not path.name.startswith(".")]
        assert {path.stem for path in photos} == set(KIND_MASK)
        endings.update(path.suffix for path in photos)
    assert {".jpg", ".png"} <= set(endings)
    info, truth = pd.read_csv(synthetic / "eval" / "info.csv"), pd.read_csv(synthetic / "answers.csv")
    assert (info.ans == 0).all()
    assert (info.ImageID == truth.ImageID).all()
    assert info.ImageID.str.fullmatch(r"[0-9a-f]{40}\.jpg").all()
    assert all((synthetic / "eval" / "images" / name).is_file() for name in info.ImageID)
    photo = cv2.imread(str(next((images / table.path[0]).glob("mask1.*"))))
    assert photo.shape == (512, 384, 3)


def test_people_have_the_real_class_frequencies():
    people = sample_people(2700, np.random.default_rng(0))
    counts = Counter(zip(people.gender, age_group(people.age), strict=True))
    assert counts == NUM_REAL_PEOPLE
    assert (people.age[age_group(people.age) == 2] == 60).all()
    assert len(sample_people(6, np.random.default_rng(0)).drop_duplicates()) == 6


@pytest.mark.parametrize("seed", range(40))
def test_no_two_people_have_one_folder(seed):
    """The two people with one id differ in gender or age; else their rows in train.csv would name one folder."""
    people = sample_people(60, np.random.default_rng(seed))
    people["id"] = _ids(people)
    assert people.id.duplicated().sum() == 1
    assert not people.duplicated(["id", "gender", "age"]).any()


def test_the_same_seed_gives_the_same_bytes(tmp_path, synthetic):
    make_demo(tmp_path / "again", 12, 6, seed=3)
    files = sorted(path.relative_to(synthetic) for path in synthetic.rglob("*") if path.is_file())
    assert len(files) > 18 * 7
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (synthetic / file).read_bytes()


def test_existing_files_are_kept(script, tmp_path, synthetic):
    result = script("make_demo_data", "--out", synthetic, "--people", 12, "--eval-people", 6, "--seed", 3)
    assert result.code == 0
    assert "exists already" in result.out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_text("precious")
    refused(script("make_demo_data", "--out", "mine"), "mine", "--out")
    assert (tmp_path / "mine" / "photo.jpg").read_text() == "precious"
    refused(script("make_demo_data", "--out", synthetic, "--people", 13), str(synthetic), "--out")
    refused(script("make_demo_data", "--out", "new", "--people", 3), "--people")
    assert not Path("new").exists()


@pytest.mark.slow
def test_no_single_pixel_predicts_gender_or_age():
    """A small decision tree on the colour of one pixel, trained on half of the people, does not predict the others."""
    rng = np.random.default_rng(0)
    people = sample_people(160, rng)
    photos, person = [], []
    for index, row in enumerate(people.itertuples()):
        appearance = sample_appearance(row.gender == "female", row.age, rng)
        for wearing in ("none", "correct"):
            photos.append(cv2.resize(render_photo(appearance, wearing, rng), (12, 16), interpolation=cv2.INTER_AREA))
            person.append(index)
    photos, person = np.stack(photos).astype(float), np.array(person)
    train = person < 80
    targets = {"gender": people.gender.eq("female").to_numpy()[person], "age": (people.age >= 30).to_numpy()[person]}
    for name, truth in targets.items():
        for pixel in np.moveaxis(photos.reshape(len(photos), -1, 3), 1, 0):
            tree = DecisionTreeClassifier(max_depth=2, class_weight="balanced", random_state=0)
            predicted = tree.fit(pixel[train], truth[train]).predict(pixel[~train])
            accuracy = np.mean([(predicted == truth[~train])[truth[~train] == side].mean() for side in (False, True)])
            assert accuracy < 0.85, name


@pytest.mark.parametrize("wearing", ["correct", "nose", "chin", "none"])
def test_photos_of_one_appearance_differ(wearing):
    rng = np.random.default_rng(1)
    appearance = sample_appearance(True, 40, rng)
    a, b = render_photo(appearance, wearing, rng), render_photo(appearance, wearing, rng)
    assert a.dtype == np.uint8
    assert a.shape == (512, 384, 3)
    assert (a != b).any()
