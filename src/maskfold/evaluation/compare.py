"""Two runs side by side: a plain sentence, and which classes and people changed."""

from dataclasses import replace

import numpy as np
from rich.console import Console

from maskfold.errors import UserError
from maskfold.evaluation.score_tables import interval, wide_console
from maskfold.metrics.bootstrap import Comparison, compare
from maskfold.metrics.scores import class_table
from maskfold.probabilities import OutOfFold

# Of classes and people that changed most.
SHOWN = 5
# A difference that would need so many times the people is told as out of reach.
OUT_OF_REACH = 100


def print_comparison(names: tuple[str, str], first: OutOfFold, second: OutOfFold, console: Console | None = None):
    """Whether one run is better than another on the people both predict, and which classes and people changed."""
    console = console or wide_console()
    for sentence in differences(names, first, second):
        console.print(sentence)


def differences(names: tuple[str, str], first: OutOfFold, second: OutOfFold) -> list[str]:
    """The verdict, the classes that changed most, and the people, on the photos both predict.

    Where their labels differ (corrections), on the labels of the one and on those of the other. Raises UserError where
    they have no photo in common.
    """
    known = set(second.image_id)
    ids = [name for name in first.image_id if name in known]
    if not ids:
        raise UserError(f"{names[0]} and {names[1]} have no photo in common; give runs on the same data")
    one, other = first.aligned(ids), second.aligned(ids)
    differs = one.label != other.label
    if not differs.any():
        return _differences(names, one, other)
    people = len(np.unique(one.person_id[differs]))
    return [
        f"{differs.sum():,} photos of {people:,} people are labelled differently; on the labels of {names[0]}:",
        *_differences(names, one, replace(other, label=one.label)),
        f"on the labels of {names[1]}:",
        *_differences(names, replace(one, label=other.label), other),
    ]


def _differences(names: tuple[str, str], one: OutOfFold, other: OutOfFold) -> list[str]:
    classes = zip(class_table(one.label, one.pred_labels), class_table(one.label, other.pred_labels), strict=True)
    changed = sorted(((a["f1"] - b["f1"], a["name"]) for a, b in classes), key=lambda pair: -abs(pair[0]))[:SHOWN]
    right = (one.pred_labels == one.label).astype(int) - (other.pred_labels == other.label)
    people, of_photo = np.unique(one.person_id, return_inverse=True)
    won = np.bincount(of_photo, weights=right, minlength=len(people)).astype(int)
    order = np.argsort(-np.abs(won), kind="stable")[:SHOWN]
    return [
        verdict(names, compare(one.label, one.pred_labels, other.pred_labels, one.person_id)),
        "classes that changed most: " + ", ".join(f"{name} {by:+.3f}" for by, name in changed),
        f"people: {names[0]} has more of {np.sum(won > 0)} right, {names[1]} of {np.sum(won < 0)}, as many of "
        f"{np.sum(won == 0)}; most changed: " + ", ".join(f"{people[at]} {won[at]:+d}" for at in order),
    ]


def verdict(names: tuple[str, str], found: Comparison) -> str:
    """A plain sentence."""
    if found.seen:
        better, worse = names if found.difference > 0 else names[::-1]
        ends = sorted(abs(end) for end in found.ci95)
        return f"{better} is better than {worse} by {abs(found.difference):.4f} {interval(ends)} (macro F1)"
    need = found.people_needed
    more = None if need is None else max(0, need - found.people)
    if more is None or more > OUT_OF_REACH * found.people:
        hint = "no number of people within reach would show one"
    else:
        hint = f"about {more:,} people more would be needed to see one of this size"
    size = f"{found.difference:+.4f} {interval(found.ci95)}"
    return f"no difference can be seen between {' and '.join(names)}: {size}; {hint}"
