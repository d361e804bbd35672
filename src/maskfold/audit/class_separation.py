"""Check that the models separate the classes of an axis; otherwise their errors look like wrong labels."""

import numpy as np

# Minimum recall of the models in each class that is compared.
MIN_RECALL = 0.5
# A few very confident predictions would hide how few are near the border, so absolute margins are clipped to this many
# medians.
MAX_MEDIANS = 2.0
# Minimum of separation(). Its value is 1.6 for a single normal distribution around 0, which shows no classes, 1.8 for
# two normal distributions whose means are three standard deviations apart, and 2.1 if the means are four apart. Models
# with a value below that of two distributions whose means are 3.1 apart had confident errors on many correct labels,
# which look like wrong labels (EXPERIMENTS.md).
MIN_SEPARATION = 1.83


def low_recall(labels: np.ndarray, predicted: np.ndarray, names: dict[int, str], unit: str) -> str:
    """Return a clause on the class with the lowest recall, or an empty string if every recall reaches MIN_RECALL.

    labels, predicted: int [N]; names: class index -> name, of the compared classes; unit: what a row is, in the plural.
    """
    if absent := [name for index, name in names.items() if index not in labels]:
        return f"no {unit} are labelled {' or '.join(absent)}"
    recalls = {name: float((predicted[labels == index] == index).mean()) for index, name in names.items()}
    name = min(recalls, key=lambda name: recalls[name])
    if recalls[name] >= MIN_RECALL:
        return ""
    return f"the models recognise {recalls[name]:.0%} of the {unit} labelled {name} (needed: {MIN_RECALL:.0%})"


def scaled_by_fold(margins: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Scale margins so that the median of their absolute values is the same in all folds.

    margins: float [P]; folds: int [P].

    The models of one fold may be more confident than those of another without being more often correct.
    """
    scaled = margins.astype(float)
    for fold in np.unique(folds):
        median = np.median(np.abs(margins[folds == fold]))
        if median > 0:
            scaled[folds == fold] *= np.median(np.abs(margins)) / median
    return scaled


def separation(margins: np.ndarray) -> float:
    """Return mean divided by standard deviation of the absolute margins, which are clipped to MAX_MEDIANS medians.

    margins: float [P], log-odds of the label against one other class. A wrong label changes only the sign of a margin,
    so the result does not depend on how many labels are wrong. It is infinity if all absolute
    margins are equal, and 0 if most margins are 0.
    """
    absolute = np.abs(margins)
    median = float(np.median(absolute)) if len(absolute) else 0.0
    if not median:
        return 0.0
    absolute = np.minimum(absolute, MAX_MEDIANS * median)
    return float(absolute.mean() / absolute.std()) if absolute.std() > 0 else np.inf


def low_separation(margins: np.ndarray) -> str:
    """Return a clause that says that the separation is below MIN_SEPARATION, or an empty string; margins: float [P]."""
    measured = separation(margins)
    if measured >= MIN_SEPARATION:
        return ""
    return (
        f"the predictions of too many people are near the border between the classes (separation {measured:.2f}, "
        f"needed: {MIN_SEPARATION})"
    )
