"""Check that the models separate the classes of an axis; otherwise errors of the models look like wrong labels."""

import numpy as np

# Minimum recall of the models in each class that is compared.
MIN_RECALL = 0.5
# Minimum number of people in each fold, for scaling. With fewer, the sampling error of a fold's median is larger than
# the differences between folds.
MIN_PEOPLE_TO_SCALE = 20
# Absolute margins are clipped to this multiple of their median. Otherwise a few very confident predictions would
# increase the standard deviation so much that well separated classes would seem poorly separated.
MAX_MEDIANS = 2.0
# Minimum of separation(). For margins from a single normal distribution around 0, which has no separate classes,
# separation() is 1.6. For two normal distributions, it is 1.8 if their means are three standard deviations apart, and
# 2.1 if they are four apart. The minimum is the value for 3.1 standard deviations. Models below it made confident
# errors on many correct labels, and such errors look like wrong labels.
MIN_SEPARATION = 1.83


def low_recall(labels: np.ndarray, predicted: np.ndarray, names: dict[int, str], unit: str) -> str:
    """Return a clause that names the absent classes, or the class with the lowest recall if it is below MIN_RECALL.

    The result is empty if all classes are present and reach MIN_RECALL. labels, predicted: int [N]; names: class index
    -> name, for the compared classes; unit: what is labelled, "people" or "photos".
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

    The models of one fold may be more confident than those of another without being correct more often. If any fold has
    fewer people than MIN_PEOPLE_TO_SCALE, nothing is scaled. margins: float [P]; folds: int [P].
    """
    if min(np.unique(folds, return_counts=True)[1], default=0) < MIN_PEOPLE_TO_SCALE:
        return margins.astype(float)
    scaled = margins.astype(float)
    for fold in np.unique(folds):
        median = np.median(np.abs(margins[folds == fold]))
        if median > 0:
            scaled[folds == fold] *= np.median(np.abs(margins)) / median
    return scaled


def separation(margins: np.ndarray) -> float:
    """Return the mean of the absolute margins divided by their standard deviation.

    The absolute margins are first clipped to MAX_MEDIANS times their median. margins: float [P], log-odds of the label
    against one other class. A wrong label changes only the sign of a margin, so the result does not depend on how many
    labels are wrong. It is infinity if all absolute margins are equal, and 0 if most margins are 0.
    """
    absolute = np.abs(margins)
    median = float(np.median(absolute)) if len(absolute) else 0.0
    if not median:
        return 0.0
    absolute = np.minimum(absolute, MAX_MEDIANS * median)
    return float(absolute.mean() / absolute.std()) if absolute.std() > 0 else np.inf


def low_separation(margins: np.ndarray) -> str:
    """Return a clause if the separation is below MIN_SEPARATION, else an empty string; margins: float [P]."""
    measured = separation(margins)
    if measured >= MIN_SEPARATION:
        return ""
    return (
        f"the predictions of too many people are near the border between the classes (separation {measured:.2f}, "
        f"needed: {MIN_SEPARATION})"
    )
