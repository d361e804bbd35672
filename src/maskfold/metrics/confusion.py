"""Confusion matrices, and the most confident predictions."""

import numpy as np

from maskfold.labels import AXES, CLASS_NAMES, decode_label
from maskfold.probabilities import OutOfFold

# Maximum number of errors that a page shows.
MAX_ERRORS = 24


def confusion_matrices(oof: OutOfFold) -> list[tuple[str, tuple[str, ...], list[list]]]:
    """Return (name, classes, rows) for the 18 classes and for each axis.

    Each row is [name of a true class, number of its photos predicted as the first class, as the second class, ...].
    """
    labels_by_name = {"classes": (oof.label, oof.pred_labels, CLASS_NAMES)}
    pairs = zip(AXES.items(), decode_label(oof.label), decode_label(oof.pred_labels), strict=True)
    labels_by_name |= {axis: (true, predicted, names) for (axis, names), true, predicted in pairs}
    matrices = []
    for name, (true, predicted, names) in labels_by_name.items():
        counts = np.zeros((len(names), len(names)), int)
        np.add.at(counts, (true, predicted), 1)
        matrices.append(
            (name, names, [[class_name, *row] for class_name, row in zip(names, counts.tolist(), strict=True)])
        )
    return matrices


def most_confident(oof: OutOfFold, wrong: bool) -> list[int]:
    """Row numbers of the incorrect predictions if `wrong`, else of the correct ones, the most confident first."""
    order = np.argsort(-oof.probs.max(1), kind="stable")
    return order[(oof.pred_labels != oof.label)[order] == wrong].tolist()


def most_confident_errors(oof: OutOfFold, max_errors: int = MAX_ERRORS) -> list[tuple[int, str, str, str, float]]:
    """Up to `max_errors` errors, the most confident first.

    Each is (row, image_id, true class, predicted class, probability of the predicted class).
    """
    pred_labels = oof.pred_labels
    return [
        (
            row,
            str(oof.image_id[row]),
            CLASS_NAMES[oof.label[row]],
            CLASS_NAMES[pred_labels[row]],
            float(oof.probs[row].max()),
        )
        for row in most_confident(oof, wrong=True)[:max_errors]
    ]
