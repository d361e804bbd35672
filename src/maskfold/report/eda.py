"""What is to be known of the data before anything is trained: sizes, colours, classes, ages, and what photos leak."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

from maskfold.config.experiment import Data
from maskfold.data.decode import jpeg_size, read_photo
from maskfold.data.folds import split
from maskfold.data.images_table import Prepared
from maskfold.evaluation.baselines import thumbnails
from maskfold.labels import AGE_BORDERS, CLASS_NAMES, GENDERS, NUM_CLASSES
from maskfold.loading.crops import crop_and_resize, resize
from maskfold.loading.faces import face_for_crop
from maskfold.loading.store import Store
from maskfold.pages.figures import BLUE, GREY, ORANGE, bare

CHANNELS = {"red": ORANGE, "green": GREY, "blue": BLUE}


def sizes(paths: Sequence[Path]) -> pd.DataFrame:
    """How many photos have which ending and size: ending, height, width, photos; the most frequent first."""
    rows = []
    for path in paths:
        size = jpeg_size(path.read_bytes()) if path.suffix.lower() != ".png" and path.is_file() else None
        size = size or read_photo(path).image.shape[:2]
        rows.append((path.suffix.lower(), *size))
    table = pd.DataFrame(rows, columns=["ending", "height", "width"])
    return table.value_counts().rename("photos").reset_index()


def colours(store: Store, rows: Sequence[int]) -> np.ndarray:
    """Mean of red, green and blue of some stored photos, float [N, 3] from 0 to 255."""
    return np.array([store[row].mean((0, 1)) for row in rows])


def colour_figure(means: dict[str, np.ndarray]) -> Figure:
    """Quartiles of each channel's mean by group of photos ({name: [N, 3]})."""
    figure = Figure(figsize=(8, 0.5 * len(means) + 1), layout="constrained")
    axes = figure.subplots()
    for at, values in enumerate(means.values()):
        for offset, (channel, colour) in enumerate(CHANNELS.items()):
            low, middle, high = np.percentile(values[:, offset], (25, 50, 75))
            place, style = at + 0.22 * (offset - 1), "osD"[offset]
            axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], fmt=style, color=colour,
                          label=channel if at == 0 else None)  # fmt: skip
    axes.set_yticks(range(len(means)), list(means))
    axes.invert_yaxis()
    axes.set(xlabel="mean of a photo's channel: median and quartiles", xlim=(0, 255))
    axes.legend(frameon=False, fontsize=8)
    bare(axes)
    return figure


def class_figure(labels: np.ndarray) -> Figure:
    """Photos of each of the 18 classes; labels int [N]."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    axes.bar_label(
        axes.barh(CLASS_NAMES, counts, color=BLUE), [f"{count:,}" for count in counts], fontsize=8, padding=2
    )
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.set(xlabel="photos")
    bare(axes)
    return figure


def age_figure(people: pd.DataFrame) -> Figure:
    """People by age in years, men above women, with the age groups' borders; people as of Prepared.people."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    both = figure.subplots(len(GENDERS), 1, sharex=True, sharey=True)
    for axes, gender in zip(both, GENDERS, strict=True):
        years, counts = np.unique(people.age[people.gender == gender], return_counts=True)
        axes.bar(years, counts, color=BLUE)
        for border in AGE_BORDERS:
            axes.axvline(border - 0.5, color=ORANGE, linestyle=":")
        axes.set(ylabel=gender)
        bare(axes)
    both[-1].set(xlabel="age in years; dotted: the groups' borders")
    return figure


def leak(prepared: Prepared, store: Store) -> pd.DataFrame:
    """What the same nearest-neighbour answer scores by folds over photos, as most teams drew them, and over people.

    The label of the most alike training thumbnail, out-of-fold: label, and one column of answers a way, int [N].
    """
    images, inputs = prepared.images, thumbnails(store)
    labels = images.label.to_numpy()
    with warnings.catch_warnings():
        # Of a class with fewer photos than folds.
        warnings.simplefilter("ignore", UserWarning)
        by_photo = list(StratifiedKFold(prepared.num_folds, shuffle=True, random_state=0).split(inputs, labels))
    ways = {
        "folds over photos": by_photo,
        "folds over people": [split(images, prepared.folds, fold) for fold in range(prepared.num_folds)],
    }
    found = pd.DataFrame({"label": labels})
    for way, splits in ways.items():
        answers = np.empty_like(labels)
        for train, valid in splits:
            nearest = KNeighborsClassifier(1).fit(inputs[train], labels[train])
            answers[valid] = nearest.predict(inputs[valid])
        found[way] = answers
    return found


def cropped(paths: Sequence[Path], data: Data) -> np.ndarray:
    """Photos as `data` cuts them, at the input's size, side by side: uint8 RGB [H, W, 3]."""
    shown = []
    for path in paths:
        image = read_photo(path).image
        face = face_for_crop(image, data)
        shown.append(resize(crop_and_resize(image, data, face), data.image_size))
    return np.concatenate(shown, 1)
