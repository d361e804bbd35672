"""Compare two runs: which is better, and for which classes and people they differ most."""

from dataclasses import replace

import numpy as np
from rich.console import Console

from maskfold.errors import UserError
from maskfold.evaluation.score_tables import wide_console
from maskfold.metrics.paired_comparison import Comparison, compare
from maskfold.metrics.score_text import ci_text
from maskfold.metrics.scores import class_table
from maskfold.probabilities import OutOfFold

# This many classes and this many people are listed: those with the largest differences.
NUM_LISTED = 5
# The number of additional people needed is printed only if it is at most this many times the number of people compared.
MAX_PEOPLE_RATIO = 100


def print_comparison(names: tuple[str, str], first: OutOfFold, second: OutOfFold, console: Console | None = None):
    """Print the sentences of `differences`."""
    console = console or wide_console()
    for sentence in differences(names, first, second):
        console.print(sentence)


def differences(names: tuple[str, str], first: OutOfFold, second: OutOfFold) -> list[str]:
    """Return sentences: which run is better, then the classes and people that differ most.

    The runs are compared on the photos that both predict. If the labels of the runs differ because of corrections, the
    runs are compared on the labels of each run in turn. Raises UserError if the runs have no photo in common.
    """
    second_ids = set(second.image_id)
    ids = [name for name in first.image_id if name in second_ids]
    if not ids:
        raise UserError(f"{names[0]} and {names[1]} have no photo in common; give runs on the same data")
    one, other = first.aligned(ids), second.aligned(ids)
    differs = one.label != other.label
    if not differs.any():
        return _differences(names, one, other)
    people = len(np.unique(one.person_id[differs]))
    return [
        f"{differs.sum():,} photos of {people:,} people have different labels in the two runs; comparison on the "
        f"labels of {names[0]}:",
        *_differences(names, one, replace(other, label=one.label)),
        f"comparison on the labels of {names[1]}:",
        *_differences(names, replace(one, label=other.label), other),
    ]


def _differences(names: tuple[str, str], one: OutOfFold, other: OutOfFold) -> list[str]:
    classes = zip(class_table(one.label, one.pred_labels), class_table(one.label, other.pred_labels), strict=True)
    changed = sorted(((a["f1"] - b["f1"], a["name"]) for a, b in classes), key=lambda pair: -abs(pair[0]))[:NUM_LISTED]
    more_correct = (one.pred_labels == one.label).astype(int) - (other.pred_labels == other.label)
    people, person_index = np.unique(one.person_id, return_inverse=True)
    gained = np.bincount(person_index, weights=more_correct, minlength=len(people)).astype(int)
    order = np.argsort(-np.abs(gained), kind="stable")[:NUM_LISTED]
    return [
        verdict(names, compare(one.label, one.pred_labels, other.pred_labels, one.person_id)),
        f"classes with the largest change of F1 from {names[1]} to {names[0]}: "
        + "; ".join(f"{name} {change:+.3f}" for change, name in changed),
        f"people with more correct photos in {names[0]}: {np.sum(gained > 0)}, with more in {names[1]}: "
        f"{np.sum(gained < 0)}, with the same number in both: {np.sum(gained == 0)}; people with the largest "
        "difference: " + ", ".join(f"{people[index]} {gained[index]:+d}" for index in order),
    ]


def verdict(names: tuple[str, str], comparison: Comparison) -> str:
    """Say which run is better and by how much, or how many people would be needed to show the difference."""
    if comparison.significant:
        better, worse = names if comparison.difference > 0 else names[::-1]
        bounds = sorted(abs(end) for end in comparison.ci95)
        return (
            f"{better} is better than {worse}: macro F1 differs by {abs(comparison.difference):.4f} {ci_text(bounds)}"
        )
    needed = comparison.people_needed
    more = None if needed is None else max(0, needed - comparison.num_people)
    if more is None or more > MAX_PEOPLE_RATIO * comparison.num_people:
        hint = "no realistic number of people would make this difference significant"
    else:
        hint = f"about {more:,} more people would be needed to show a difference of this size"
    size = f"{comparison.difference:+.4f} {ci_text(comparison.ci95)}"
    return f"no significant difference between {' and '.join(names)}: macro F1 differs by {size}; {hint}"
