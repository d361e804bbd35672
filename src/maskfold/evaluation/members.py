"""Tables for an ensemble: what each member contributes, and the cross-fitted score of each way of blending."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console

from maskfold.evaluation.score_tables import terminal_table, wide_console
from maskfold.inference.cross_fit import TOLERATED_LOSS, BlendParams, CrossFitted, accepts_decision, cross_fit
from maskfold.inference.ensemble_weights import BLENDS, hard_vote
from maskfold.metrics.bootstrap import score_intervals
from maskfold.metrics.paired_comparison import Comparison, compare
from maskfold.metrics.score_text import ci_text
from maskfold.metrics.scores import macro_f1
from maskfold.probabilities import OutOfFold


def leave_one_out(crossed: CrossFitted, labels: np.ndarray, people: np.ndarray) -> list[Comparison]:
    """For each member: macro F1 of the blend minus macro F1 of the blend of the other members.

    The other members keep the ratios of their weights. If the left-out member has all the weight, they get equal
    weights.
    """
    whole, costs = crossed.probs.argmax(1), []
    weighted = crossed.calibrated * crossed.weights.T[:, :, None]
    total = weighted.sum(0)
    for index in range(len(weighted)):
        rest = total - weighted[index]
        empty = crossed.weights[:, index] > 1 - 1e-9
        rest[empty] = (crossed.calibrated.sum(0) - crossed.calibrated[index])[empty]
        costs.append(compare(labels, whole, rest.argmax(1), people))
    return costs


def member_correlation(crossed: CrossFitted, labels: np.ndarray) -> np.ndarray:
    """Pearson correlation of the probabilities that M members give to the true class, float [M, M]."""
    return np.corrcoef(crossed.calibrated[:, np.arange(len(labels)), labels])


def print_members(
    names: Sequence[str],
    crossed: CrossFitted,
    oof: OutOfFold,
    params: BlendParams,
    console: Console | None = None,
) -> None:
    """Print the score, weight, temperature and leave-one-out cost of each member, then the members' correlations.

    oof: labels and people of the photos of `crossed`. params: the parameters fitted on all people.
    """
    console, labels = console or wide_console(), oof.label
    columns = ("run", "macro F1", "weight", "temperature", "cost of leaving it out [95 %]")
    table = terminal_table("members: out-of-fold", *columns)
    for index, (name, cost) in enumerate(zip(names, leave_one_out(crossed, labels, oof.person_id), strict=True)):
        table.add_row(
            name,
            f"{macro_f1(labels, crossed.calibrated[index].argmax(1)):.4f}",
            f"{params.weights[index]:.3f}",
            f"{params.temperatures[index]:.3f}",
            f"{cost.difference:+.4f} {ci_text(cost.ci95)}",
        )
    console.print(table)
    correlations = terminal_table("correlation of the members' probabilities of the true class", "run", *names)
    for index, (name, row) in enumerate(zip(names, member_correlation(crossed, labels), strict=True)):
        correlations.add_row(name, *(f"{value:.3f}" for value in row[: index + 1]))
    console.print(correlations)


def print_blends(
    members: np.ndarray, labels: np.ndarray, people: np.ndarray, computed: dict[str, CrossFitted], console=None
) -> None:
    """Print the cross-fitted score of each way of blending, and its difference from the score of the blend `mean`.

    members: float [M, N, 18], out-of-fold probabilities; labels, people: [N]; computed: {name of the blend: result} of
    blends that are already cross-fitted.
    """
    console = console or wide_console()
    columns = ("--blend", "macro F1 [95 %]", "difference from mean [95 %]")
    table = terminal_table("ways of blending: cross-fitted", *columns)
    labels_by_blend = {}
    for name in BLENDS:
        crossed = computed[name] if name in computed else cross_fit(members, labels, people, name, "argmax")
        labels_by_blend[name] = crossed.probs.argmax(1)
    labels_by_blend["hard vote"] = hard_vote(members)
    for name, pred_labels in labels_by_blend.items():
        bounds = ci_text(score_intervals(labels, pred_labels, people, 0)["macro_f1_ci95"])
        comparison = compare(labels, pred_labels, labels_by_blend["mean"], people)
        difference = "" if name == "mean" else f"{comparison.difference:+.4f} {ci_text(comparison.ci95)}"
        title = {"mean": "mean (soft vote)", "hard vote": "(hard vote)"}.get(name, name)
        table.add_row(title, f"{macro_f1(labels, pred_labels):.4f} {bounds}", difference)
    console.print(table)


def decision_sentence(gain: Comparison) -> str:
    """Return a sentence that says whether the decision for macro F1 is used, and why."""
    size = f"{gain.difference:+.4f} {ci_text(gain.ci95)} macro F1, cross-fitted"
    if accepts_decision(gain):
        return f"decision macro-f1 is used: it gains {size}"
    reason = "it gains nothing" if gain.difference <= 0 else f"it may lose more than {TOLERATED_LOSS}"
    return f"decision macro-f1 is not used, so the most probable label is predicted: {reason} ({size})"
