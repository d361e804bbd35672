"""What each member of an ensemble is worth, and each way to join them, on people that nothing was fitted on."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from maskfold.evaluation.score_tables import interval, wide_console
from maskfold.inference.cross_fit import SMALL_LOSS, CrossFitted, cross_fit, is_worth_it
from maskfold.inference.ensemble_weights import BLENDS, hard_vote
from maskfold.metrics.bootstrap import Comparison, compare, intervals
from maskfold.metrics.scores import macro_f1


def leave_one_out(crossed: CrossFitted, labels: np.ndarray, people: np.ndarray) -> list[Comparison]:
    """Of each member: macro F1 of the blend less that of the blend without it, the other weights scaled up.

    A blend in which it alone has weight falls back on the mean of the others.
    """
    whole, found = crossed.probs.argmax(1), []
    weighted = crossed.calibrated * crossed.weights.T[:, :, None]
    total = weighted.sum(0)
    for at in range(len(weighted)):
        rest = total - weighted[at]
        empty = crossed.weights[:, at] > 1 - 1e-9
        rest[empty] = (crossed.calibrated.sum(0) - crossed.calibrated[at])[empty]
        found.append(compare(labels, whole, rest.argmax(1), people))
    return found


def likeness(crossed: CrossFitted, labels: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the members' probability of the true class, [M, M]."""
    return np.corrcoef(crossed.calibrated[:, np.arange(len(labels)), labels])


def print_members(
    names: Sequence[str],
    crossed: CrossFitted,
    labels: np.ndarray,
    people: np.ndarray,
    weights: Sequence[float],
    temperatures: Sequence[float],
    console: Console | None = None,
) -> None:
    """A row a member: own score, weight, temperature, what leaving it out costs; then how alike the members are."""
    console = console or wide_console()
    table = Table(title="members, out-of-fold", title_justify="left")
    table.add_column("run")
    for title in ("macro F1", "weight", "temperature", "leaving it out costs [95 %]"):
        table.add_column(title, justify="right")
    for at, (name, cost) in enumerate(zip(names, leave_one_out(crossed, labels, people), strict=True)):
        table.add_row(
            name,
            f"{macro_f1(labels, crossed.calibrated[at].argmax(1)):.4f}",
            f"{weights[at]:.3f}",
            f"{temperatures[at]:.3f}",
            f"{cost.difference:+.4f} {interval(cost.ci95)}",
        )
    console.print(table)
    alike = Table(title="correlation of the true class' probability", title_justify="left")
    alike.add_column("run")
    for name, row in zip(names, likeness(crossed, labels), strict=True):
        alike.add_column(name, justify="right")
        alike.add_row(name, *(f"{value:.3f}" for value in row[: len(alike.rows) + 1]))
    console.print(alike)


def print_blends(
    members: np.ndarray, labels: np.ndarray, people: np.ndarray, known: dict[str, CrossFitted], console=None
) -> None:
    """A row a way to join the members: its cross-fitted score, and how it differs from the mean. known: by blend."""
    console = console or wide_console()
    table = Table(title="blends, cross-fitted", title_justify="left")
    table.add_column("blend")
    for title in ("macro F1 [95 %]", "less that of the mean [95 %]"):
        table.add_column(title, justify="right")
    answers = {
        name: (known[name] if name in known else cross_fit(members, labels, people, name, "argmax")).probs.argmax(1)
        for name in BLENDS
    }
    answers["hard vote"] = hard_vote(members)
    for name, said in answers.items():
        bounds = interval(intervals(labels, said, people, 0)["macro_f1_ci95"])
        found = compare(labels, said, answers["mean"], people)
        less = "" if name == "mean" else f"{found.difference:+.4f} {interval(found.ci95)}"
        called = "mean (soft vote)" if name == "mean" else name
        table.add_row(called, f"{macro_f1(labels, said):.4f} {bounds}", less)
    console.print(table)


def said_of_decision(gain: Comparison) -> str:
    """In a sentence, whether the decision for macro F1 is taken, and why."""
    size = f"{gain.difference:+.4f} {interval(gain.ci95)} macro F1, cross-fitted"
    if is_worth_it(gain):
        return f"decision macro-f1: gains {size}"
    why = "it gains nothing" if gain.difference <= 0 else f"it may lose over {SMALL_LOSS}"
    return f"decision macro-f1 is not taken, the most probable label stands: {why} ({size})"
