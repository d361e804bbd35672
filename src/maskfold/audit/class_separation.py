"""Whether the models separate the classes of an axis, so that wrong labels can be distinguished from model errors."""

import numpy as np

# The models must recognise this share of every class in question.
MIN_RECALL = 0.5
# A few very confident predictions would hide how few are near the border, so larger margins count as this many medians.
MAX_MEDIANS = 2.0
# Mean divided by standard deviation of the absolute margins. It is 1.6 for one normal distribution around 0, where no
# classes can be seen, 1.8 for two whose means are three standard deviations apart, and 2.1 for four. Models with less
# than two whose means are 3.1 apart had confident errors on many correct labels, which look like wrong labels.
MIN_SEPARATION = 1.83


def recall_doubt(labels: np.ndarray, predicted: np.ndarray, names: dict[int, str], unit: str) -> str:
    """A clause on the class that the models recognise least, or an empty string if they recognise every class.

    labels, predicted: int [N]; names: class index -> name, of the classes in question; unit: plural name of the rows.
    """
    if absent := [name for index, name in names.items() if index not in labels]:
        return f"no {unit} are labelled {' or '.join(absent)}"
    recalls = {name: float((predicted[labels == index] == index).mean()) for index, name in names.items()}
    name = min(recalls, key=lambda name: recalls[name])
    if recalls[name] >= MIN_RECALL:
        return ""
    return f"the models recognise {recalls[name]:.0%} of the {unit} labelled {name} (needed: {MIN_RECALL:.0%})"


def scaled_by_fold(margins: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Margins scaled so that their median size is the same in all folds; margins: float [P]; folds: int [P].

    The models of one fold may be more confident than those of another without being more often correct.
    """
    scaled = margins.astype(float)
    for fold in np.unique(folds):
        median = np.median(np.abs(margins[folds == fold]))
        if median > 0:
            scaled[folds == fold] *= np.median(np.abs(margins)) / median
    return scaled


def separation(margins: np.ndarray) -> float:
    """Mean divided by standard deviation of the absolute margins, each at most MAX_MEDIANS medians.

    margins: float [P], log-odds of the label against one other class. A wrong label changes only the sign of a margin,
    so the result does not depend on how many labels are wrong. Infinity for equal sizes; 0 if most margins are 0.
    """
    sizes = np.abs(margins)
    median = float(np.median(sizes)) if len(sizes) else 0.0
    if not median:
        return 0.0
    sizes = np.minimum(sizes, MAX_MEDIANS * median)
    return float(sizes.mean() / sizes.std()) if sizes.std() > 0 else np.inf


def separation_doubt(margins: np.ndarray) -> str:
    """A clause if the predictions do not fall into two separate groups, or an empty string; margins: float [P]."""
    measured = separation(margins)
    if measured >= MIN_SEPARATION:
        return ""
    return (
        f"the predictions of too many people are near the border between the classes (separation {measured:.2f}, "
        f"needed: {MIN_SEPARATION})"
    )
