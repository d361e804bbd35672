"""Macro F1, which is the competition's metric, and related metrics, all computed from counts per class."""

import numpy as np

from maskfold.labels import AXES, CLASS_NAMES, NUM_CLASSES, decode_label

# Columns of a tally: the 18 classes, then the classes of each axis.
TALLY_COLUMNS = {"all": slice(0, NUM_CLASSES)}
for _axis, _names in AXES.items():
    _start = max(part.stop for part in TALLY_COLUMNS.values())
    TALLY_COLUMNS[_axis] = slice(_start, _start + len(_names))
TALLY_WIDTH = max(part.stop for part in TALLY_COLUMNS.values())
METRICS = ("macro_f1", "accuracy", *(f"{axis}_{kind}" for kind in ("accuracy", "f1") for axis in AXES))


def tally(labels, pred_labels, groups=None, num_groups: int = 1) -> np.ndarray:
    """Count true positives, photos and predictions of each class, by group: float [num_groups, 3, TALLY_WIDTH].

    labels, pred_labels: int [N], 0..17; groups: int [N], 0..num_groups - 1, or None for a single group. Tallies of
    disjoint sets of photos can be added.
    """
    labels, pred_labels = np.asarray(labels), np.asarray(pred_labels)
    groups = np.zeros(len(labels), int) if groups is None else groups
    counts = np.zeros((num_groups, 3, TALLY_WIDTH))
    by_axis = zip(AXES, zip(decode_label(labels), decode_label(pred_labels), strict=True), strict=True)
    pairs = {"all": (labels, pred_labels)} | dict(by_axis)
    for name, (true, predicted) in pairs.items():
        start, correct = TALLY_COLUMNS[name].start, true == predicted
        np.add.at(counts[:, 0], (groups[correct], start + true[correct]), 1)
        np.add.at(counts[:, 1], (groups, start + true), 1)
        np.add.at(counts[:, 2], (groups, start + predicted), 1)
    return counts


def f1_per_class(tallies: np.ndarray) -> np.ndarray:
    """Tallies [..., 3, C] -> F1 [..., C]; 0 for a class with neither photos nor predictions (zero_division=0)."""
    hits, num_true, num_predicted = np.moveaxis(tallies, -2, 0)
    return 2 * hits / np.maximum(num_true + num_predicted, 1)


def metrics_from_tally(tallies: np.ndarray) -> dict[str, np.ndarray]:
    """Tallies [..., 3, TALLY_WIDTH] -> the value of each of METRICS by name, float [...], 0..1.

    macro_f1 is the unweighted mean of the F1 of the 18 classes, as the organisers compute it; <axis>_f1 is the same
    over the classes of one axis.
    """
    whole, metrics = tallies[..., TALLY_COLUMNS["all"]], {}
    photos = np.maximum(whole[..., 1, :].sum(-1), 1)
    metrics["macro_f1"] = f1_per_class(whole).mean(-1)
    metrics["accuracy"] = whole[..., 0, :].sum(-1) / photos
    for axis in AXES:
        metrics[f"{axis}_accuracy"] = tallies[..., 0, TALLY_COLUMNS[axis]].sum(-1) / photos
    for axis in AXES:
        metrics[f"{axis}_f1"] = f1_per_class(tallies[..., TALLY_COLUMNS[axis]]).mean(-1)
    return metrics


def macro_f1(labels, pred_labels) -> float:
    """Unweighted mean of the F1 of the 18 classes with zero_division=0, as the organisers compute it.

    labels, pred_labels: int [N], 0..17.
    """
    return scores(labels, pred_labels)["macro_f1"]


def quick_macro_f1(pred_labels: np.ndarray, labels: np.ndarray, num_true: np.ndarray) -> float:
    """macro_f1 without the other metrics, for a search that calls it thousands of times.

    num_true: int [18], the number of photos of each class in `labels`.
    """
    hits = np.bincount(labels[pred_labels == labels], minlength=NUM_CLASSES)
    num_predicted = np.bincount(pred_labels, minlength=NUM_CLASSES)
    return float((2 * hits / np.maximum(num_true + num_predicted, 1)).mean())


def scores(labels, pred_labels) -> dict[str, float]:
    """The value of each of METRICS by name; labels, pred_labels: int [N], 0..17."""
    return {name: float(value) for name, value in metrics_from_tally(tally(labels, pred_labels)[0]).items()}


def class_table(labels, pred_labels) -> list[dict]:
    """For each of the 18 classes: label, name, support (photos), precision, recall, f1; 0 for a division by zero."""
    counts = tally(labels, pred_labels)[0][:, TALLY_COLUMNS["all"]]
    rows = zip(CLASS_NAMES, *counts, f1_per_class(counts), strict=True)
    return [
        {
            "label": label,
            "name": name,
            "support": int(num_true),
            "precision": float(hits / max(num_predicted, 1)),
            "recall": float(hits / max(num_true, 1)),
            "f1": float(f1),
        }
        for label, (name, hits, num_true, num_predicted, f1) in enumerate(rows)
    ]
