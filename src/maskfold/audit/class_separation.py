"""Check that the models separate the classes of an axis; otherwise their errors look like wrong labels."""

import numpy as np

# Minimum recall of the models in each class that is compared.
MIN_RECALL = 0.5
# Minimum of separation(). Its value is 1.3 for a single normal distribution around 0, which shows no classes, 1.7 for
# two normal distributions whose means are three standard deviations apart, and 2.1 if the means are four apart. Models
# below 1.62 had confident errors on many correct labels, which look like wrong labels; models above 2 had none
# (EXPERIMENTS.md).
MIN_SEPARATION = 1.75


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


def separation(margins: np.ndarray) -> float:
    """Return mean divided by standard deviation of the absolute margins; infinity if they are all equal.

    margins: float [P], log-odds of the label against one other class. A wrong label changes only the sign of a margin,
    so the result does not depend on how many labels are wrong.
    """
    absolute = np.abs(margins)
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
