"""Exploratory data analysis against values computed by hand."""

import cv2
import numpy as np
import pandas as pd
import pytest

from maskfold.config.experiment import Data
from maskfold.data.images_table import load_prepared
from maskfold.loading.store import open_store
from maskfold.loading.transforms import EvalTransform
from maskfold.metrics.scores import macro_f1
from maskfold.report.eda import (
    age_figure,
    channel_figure,
    channel_means,
    class_figure,
    cropped_photos,
    nearest_neighbour_leakage,
    photo_sizes,
)


class UniformPhotos:
    """A store of photos of one colour each."""

    def __init__(self, colours):
        self.photos = np.array(colours, np.uint8)[:, None, None] * np.ones((1, 64, 48, 1), np.uint8)

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, row):
        return self.photos[row]


def test_sizes_are_counted_by_ending(tmp_path):
    for name, shape in (("a.jpg", (20, 10, 3)), ("b.JPG", (20, 10, 3)), ("c.png", (8, 9, 3))):
        cv2.imwrite(str(tmp_path / name), np.full(shape, 90, np.uint8))
    table = photo_sizes(sorted(tmp_path.iterdir()))
    assert table.to_numpy().tolist() == [[".jpg", 20, 10, 2], [".png", 8, 9, 1]]


def test_colours_are_means_of_red_green_and_blue():
    store = UniformPhotos([(10, 20, 30), (0, 0, 0), (200, 100, 50)])
    assert channel_means(store, [2, 0]).tolist() == [[200, 100, 50], [10, 20, 30]]
    [axes] = channel_figure({"all": np.array([[0, 20, 30], [10, 20, 30], [20, 20, 30]])}).axes
    assert [round(float(line.get_xdata()[0])) for line in axes.lines] == [10, 20, 30]


def test_class_and_age_figures_show_the_counts():
    [axes] = class_figure(np.array([0, 0, 17])).axes
    assert [bar.get_width() for bar in axes.patches] == [2] + [0] * 16 + [1]
    people = pd.DataFrame({"gender": ["male", "female", "female"], "age": [20, 59, 59]})
    men, women = age_figure(people).axes
    assert [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in men.patches] == [(20, 1)]
    assert [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in women.patches] == [(59, 2)]
    assert [line.get_xdata()[0] for line in men.lines] == [29.5, 59.5]


def test_folds_over_photos_leak_the_person(trained):
    """Each person has one noise pattern: it identifies the person, and is useless for other people."""
    prepared = load_prepared(trained.prepared)
    rng = np.random.default_rng(0)
    patterns = {person: rng.integers(0, 256, (64, 48, 3), np.uint8) for person in prepared.folds.person_id}

    class Patterns(UniformPhotos):
        def __init__(self):
            self.photos = np.stack([patterns[person] for person in prepared.images.person_id])

    table = nearest_neighbour_leakage(prepared, Patterns())
    assert table.label.tolist() == prepared.images.label.tolist()
    over_photos, over_people = (macro_f1(table.label, table[f"folds over {unit}"]) for unit in ("photos", "people"))
    # Gender and age group are correct if the person was in training, and a guess otherwise.
    accuracy = (table["folds over photos"] % 6 == table.label % 6).mean()
    assert accuracy > 0.9
    assert over_photos > over_people
    assert (table["folds over people"] % 6 == table.label % 6).mean() < 0.6


@pytest.mark.parametrize("crop", ["none", "center", "face"])
def test_cropped_photos_have_the_configured_crop_and_size(trained, crop):
    prepared = load_prepared(trained.prepared)
    data = Data(root=trained.raw, image_size=(40, 30), crop=crop, crop_size=(256, 192))
    paths = prepared.photo_paths(prepared.images.iloc[:3])
    pixels = cropped_photos(paths, data)
    assert pixels.shape == (40, 90, 3)
    # What the model sees: from the store, whose photos are shrunk while they are decoded.
    store = open_store(prepared, prepared.images, data)
    assert np.array_equal(pixels, np.concatenate([EvalTransform(data)(store[row]) for row in range(3)], 1))
    if crop == "none":
        whole = cv2.cvtColor(cv2.imread(str(paths[1])), cv2.COLOR_BGR2RGB)
        assert np.abs(pixels[:, 30:60].astype(float).mean((0, 1)) - whole.mean((0, 1))).max() < 3


def test_channel_means_of_a_store(trained):
    prepared = load_prepared(trained.prepared)
    store = open_store(prepared, prepared.images, trained.config.data)
    means = channel_means(store, range(5))
    assert means.shape == (5, 3)
    assert means.min() >= 0
    assert means.max() <= 255
