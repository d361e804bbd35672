"""The official metric and its kin over whole arrays, all of them functions of counts a class."""

import numpy as np

from maskfold.labels import AXES, CLASS_NAMES, NUM_CLASSES, decode

# Columns of a tally: the 18 classes, then each axis' own.
COLUMNS = {"all": slice(0, NUM_CLASSES)}
for _axis, _names in AXES.items():
    _start = max(part.stop for part in COLUMNS.values())
    COLUMNS[_axis] = slice(_start, _start + len(_names))
WIDTH = max(part.stop for part in COLUMNS.values())
METRICS = ("macro_f1", "accuracy", *(f"{axis}_{kind}" for kind in ("accuracy", "f1") for axis in AXES))


def tally(labels, answers, groups=None, n_groups: int = 1) -> np.ndarray:
    """Float [n_groups, 3, WIDTH]: hits, true photos and answered photos of each class, by group of photos.

    labels, answers: int [N], 0..17; groups: int [N] below n_groups, or None for a single one. Tallies add up.
    """
    labels, answers = np.asarray(labels), np.asarray(answers)
    groups = np.zeros(len(labels), int) if groups is None else groups
    counts = np.zeros((n_groups, 3, WIDTH))
    pairs = {"all": (labels, answers)} | dict(zip(AXES, zip(decode(labels), decode(answers), strict=True), strict=True))
    for name, (true, said) in pairs.items():
        start, right = COLUMNS[name].start, true == said
        np.add.at(counts[:, 0], (groups[right], start + true[right]), 1)
        np.add.at(counts[:, 1], (groups, start + true), 1)
        np.add.at(counts[:, 2], (groups, start + said), 1)
    return counts


def f1_per_class(tallies: np.ndarray) -> np.ndarray:
    """Tallies [..., 3, C] -> F1 [..., C]; 0 where a class was neither true nor answered (zero_division 0)."""
    hits, truths, answers = np.moveaxis(tallies, -2, 0)
    return 2 * hits / np.maximum(truths + answers, 1)


def metrics_of(tallies: np.ndarray) -> dict[str, np.ndarray]:
    """Tallies [..., 3, WIDTH] -> METRICS by name, [...] each, all 0..1.

    macro_f1 is the plain mean of the 18 classes' F1, as the organisers compute it; <axis>_f1 that of an axis' classes.
    """
    whole, found = tallies[..., COLUMNS["all"]], {}
    photos = np.maximum(whole[..., 1, :].sum(-1), 1)
    found["macro_f1"] = f1_per_class(whole).mean(-1)
    found["accuracy"] = whole[..., 0, :].sum(-1) / photos
    for axis in AXES:
        found[f"{axis}_accuracy"] = tallies[..., 0, COLUMNS[axis]].sum(-1) / photos
    for axis in AXES:
        found[f"{axis}_f1"] = f1_per_class(tallies[..., COLUMNS[axis]]).mean(-1)
    return found


def macro_f1(labels, answers) -> float:
    """Plain mean of the 18 classes' F1, zero_division 0, as the organisers compute it; int [N] each, 0..17."""
    return scores(labels, answers)["macro_f1"]


def quick_macro_f1(answers: np.ndarray, labels: np.ndarray, truths: np.ndarray) -> float:
    """macro_f1 alone, for a search that asks thousands of times; truths: int [18], photos of each class in labels."""
    hits = np.bincount(labels[answers == labels], minlength=NUM_CLASSES)
    said = np.bincount(answers, minlength=NUM_CLASSES)
    return float((2 * hits / np.maximum(truths + said, 1)).mean())


def scores(labels, answers) -> dict[str, float]:
    """METRICS of int [N] labels and answers, 0..17."""
    return {name: float(value) for name, value in metrics_of(tally(labels, answers)[0]).items()}


def class_table(labels, answers) -> list[dict]:
    """For each of the 18 classes: label, name, support (photos), precision, recall, f1; 0 where nothing is divided."""
    counts = tally(labels, answers)[0][:, COLUMNS["all"]]
    rows = zip(CLASS_NAMES, *counts, f1_per_class(counts), strict=True)
    return [
        {
            "label": label,
            "name": name,
            "support": int(truths),
            "precision": float(hits / max(said, 1)),
            "recall": float(hits / max(truths, 1)),
            "f1": float(f1),
        }
        for label, (name, hits, truths, said, f1) in enumerate(rows)
    ]
