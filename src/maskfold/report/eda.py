"""Exploratory data analysis: photo sizes, colours, classes, ages, and the leakage that folds over photos cause."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

from maskfold.config.experiment import Data
from maskfold.data.decode import read_photo
from maskfold.data.folds import split
from maskfold.data.images_table import Prepared
from maskfold.evaluation.simple_models import thumbnails
from maskfold.labels import AGE_BORDERS, CLASS_NAMES, GENDERS, NUM_CLASSES
from maskfold.loading.crops import resize
from maskfold.loading.store import Store
from maskfold.loading.stored_photo import read_stored_photo
from maskfold.pages.figures import BLUE, GREY, ORANGE, hide_upper_right_spines
from maskfold.photos.jpeg_header import jpeg_size

CHANNELS = {"red": ORANGE, "green": GREY, "blue": BLUE}


def photo_sizes(paths: Sequence[Path]) -> pd.DataFrame:
    """Count photos by file extension and size. Columns: ending, height, width, photos; the most frequent come first."""
    rows = []
    for path in paths:
        size = jpeg_size(path.read_bytes()) if path.suffix.lower() != ".png" and path.is_file() else None
        size = size or read_photo(path).image.shape[:2]
        rows.append((path.suffix.lower(), *size))
    table = pd.DataFrame(rows, columns=["ending", "height", "width"])
    return table.value_counts().rename("photos").reset_index()


def channel_means(store: Store, rows: Sequence[int]) -> np.ndarray:
    """Mean of the red, green and blue channel of each photo in these rows of the store: float [N, 3] from 0 to 255."""
    return np.array([store[row].mean((0, 1)) for row in rows])


def channel_figure(means: dict[str, np.ndarray]) -> Figure:
    """Median and quartiles of the channel means in each group. means: name of a group of photos -> float [N, 3]."""
    figure = Figure(figsize=(8, 0.5 * len(means) + 1), layout="constrained")
    axes = figure.subplots()
    for group, values in enumerate(means.values()):
        for index, (channel, colour) in enumerate(CHANNELS.items()):
            low, middle, high = np.percentile(values[:, index], (25, 50, 75))
            position, style = group + 0.22 * (index - 1), "osD"[index]
            axes.errorbar(middle, position, xerr=[[middle - low], [high - middle]], fmt=style, color=colour,
                          label=channel if group == 0 else None)  # fmt: skip
    axes.set_yticks(range(len(means)), list(means))
    axes.invert_yaxis()
    axes.set(xlabel="channel mean of a photo (median and quartiles)", xlim=(0, 255))
    axes.legend(frameon=False, fontsize=8)
    hide_upper_right_spines(axes)
    return figure


def class_figure(labels: np.ndarray) -> Figure:
    """Number of photos per class; labels: int [N], 0 to 17."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    axes.bar_label(
        axes.barh(CLASS_NAMES, counts, color=BLUE), [f"{count:,}" for count in counts], fontsize=8, padding=2
    )
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.set(xlabel="photos")
    hide_upper_right_spines(axes)
    return figure


def age_figure(people: pd.DataFrame) -> Figure:
    """Number of people by age in years, with one panel per gender; people: a table like Prepared.people.

    Dotted lines mark the borders of the age groups.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panels = figure.subplots(len(GENDERS), 1, sharex=True, sharey=True)
    for axes, gender in zip(panels, GENDERS, strict=True):
        years, counts = np.unique(people.age[people.gender == gender], return_counts=True)
        axes.bar(years, counts, color=BLUE)
        for border in AGE_BORDERS:
            axes.axvline(border - 0.5, color=ORANGE, linestyle=":")
        axes.set(ylabel=f"people, {gender}")
        hide_upper_right_spines(axes)
    panels[-1].set(xlabel="age in years (dotted: borders of the age groups)")
    return figure


def nearest_neighbour_leakage(prepared: Prepared, store: Store) -> pd.DataFrame:
    """Out-of-fold predictions of a nearest-neighbour classifier, with folds over photos and with folds over people.

    Folds over photos leak, because photos of the same person are in both training and validation. The classifier
    predicts the label of the nearest training thumbnail.

    Columns, int [N] each: label, "folds over photos", "folds over people".
    """
    images, inputs = prepared.images, thumbnails(store)
    labels = images.label.to_numpy()
    with warnings.catch_warnings():
        # scikit-learn warns about classes that have fewer photos than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        by_photo = list(StratifiedKFold(prepared.num_folds, shuffle=True, random_state=0).split(inputs, labels))
    splits_by_name = {
        "folds over photos": by_photo,
        "folds over people": [split(images, prepared.folds, fold) for fold in range(prepared.num_folds)],
    }
    table = pd.DataFrame({"label": labels})
    for name, splits in splits_by_name.items():
        predicted = np.empty_like(labels)
        for train, val in splits:
            nearest = KNeighborsClassifier(1).fit(inputs[train], labels[train])
            predicted[val] = nearest.predict(inputs[val])
        table[name] = predicted
    return table


def cropped_photos(paths: Sequence[Path], data: Data) -> np.ndarray:
    """Photos cropped and resized as `data` configures, side by side: uint8 RGB [H, W, 3]."""
    return np.concatenate([resize(read_stored_photo(path, data).pixels, data.image_size) for path in paths], 1)
