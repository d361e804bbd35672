"""Figures show the numbers that they are given."""

from string import ascii_uppercase

import numpy as np

from maskfold.metrics.scores import class_table
from maskfold.pages.figures import (
    accuracy_by_age,
    class_f1_bars,
    class_f1_dots,
    confusion_matrix,
    image_figure,
    learning_curves,
)


def test_learning_curves_have_one_line_per_history_with_the_key():
    history = [{"epoch": 1, "train_loss": 2.0, "macro_f1": 0.1}, {"epoch": 2, "train_loss": 1.0, "macro_f1": 0.3}]
    full = [{key: value for key, value in row.items() if key != "macro_f1"} for row in history]
    chart = learning_curves({"fold0": history, "full": full}, {"train_loss": "loss", "macro_f1": "F1"})
    loss, f1 = chart.axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[2.0, 1.0], [2.0, 1.0]]
    assert [line.get_ydata().tolist() for line in f1.lines] == [[0.1, 0.3]]
    # The lines differ without colour, and the legend names both, though the last panel has one line.
    assert len({(line.get_marker(), line.get_linestyle()) for line in loss.lines}) == 2
    assert [text.get_text() for text in f1.get_legend().get_texts()] == ["fold0", "full"]


def test_each_of_26_runs_has_a_marker_of_its_own():
    rows = class_table(np.arange(18), np.arange(18))
    [axes] = class_f1_dots({letter: rows for letter in ascii_uppercase}).axes
    assert [line.get_marker() for line in axes.lines] == [f"${letter}$" for letter in ascii_uppercase]


def test_confusion_matrix_shows_counts():
    chart = confusion_matrix(np.array([[7, 0], [3, 1200]]), ("male", "female"))
    [axes] = chart.axes
    assert sorted(text.get_text() for text in axes.texts) == ["1,200", "3", "7"]


def test_class_f1_bars_have_the_length_of_f1():
    labels, predicted = np.array([0, 0, 1, 5]), np.array([0, 1, 1, 5])
    rows = class_table(labels, predicted)
    [axes] = class_f1_bars(rows, [[0, 1]] * 18).axes
    assert [bar.get_width() for bar in axes.patches] == [row["f1"] for row in rows]


def test_accuracy_by_age_by_hand():
    ages = np.array([20, 20, 59, 60])
    chart = accuracy_by_age(ages, np.array([True, False, True, False]), np.array([True, True, True, False]))
    top, bottom = chart.axes
    whole, group = top.lines[:2]
    assert whole.get_xdata().tolist() == [20, 59, 60]
    assert whole.get_ydata().tolist() == [0.5, 1, 0]
    assert group.get_ydata().tolist() == [1, 1, 0]
    assert [bar.get_height() for bar in bottom.patches] == [2, 1, 1]
    # The borders lie between 29 and 30, and 59 and 60.
    assert [line.get_xdata()[0] for line in top.lines[2:]] == [29.5, 59.5]


def test_image_figure_shows_every_pixel():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    [axes] = image_figure(pixels).axes
    assert np.array_equal(axes.images[0].get_array(), pixels)
