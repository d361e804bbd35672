"""Scores as tables and sentences for the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from maskfold.fileio import read_json, sha256, write_atomic
from maskfold.inference.answer_csv import with_truth
from maskfold.labels import AXES
from maskfold.metrics.bootstrap import class_intervals
from maskfold.metrics.calibration import before_and_after, cross_fitted, log_loss
from maskfold.metrics.scores import class_table, scores
from maskfold.probabilities import OutOfFold
from maskfold.runs.summary import SELECTED

COLUMNS = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "mask_accuracy": "mask",
    "gender_accuracy": "gender",
    "age_accuracy": "age",
}


def interval(bounds: list[float] | None, digits: int = 4) -> str:
    return "none (no eval side)" if bounds is None else f"[{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"


def wide_console() -> Console:
    """A pipe has no width of its own: rich would cut a table at 80. Sentences are left to the terminal to wrap."""
    return Console(width=None if Console().is_terminal else 120, highlight=False, soft_wrap=True)


def print_summary(
    summary: dict,
    console: Console | None = None,
    baseline: tuple[str, float] | None = None,
    gain: dict | None = None,
) -> None:
    """A run's out-of-fold scores per fold and overall, what a new set may score, and whether it beats the baseline.

    gain: what the mean of the fold models adds, where repeats have told it.
    """
    console = console or wide_console()
    table = Table(title=f"{summary['name']}: out-of-fold", title_justify="left")
    table.add_column("fold")
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    table.add_column("macro F1, 95 %", justify="right")
    table.add_column("images/s", justify="right")
    for row in summary["folds"]:
        bounds = interval(row["macro_f1_ci95"], 3)
        table.add_row(
            str(row["fold"]), *(f"{row[key]:.4f}" for key in COLUMNS), bounds, f"{row['images_per_second']:,.0f}"
        )
    table.add_section()
    whole = summary["oof"]
    table.add_row("all", *(f"{whole[key]:.4f}" for key in COLUMNS), interval(whole["macro_f1_ci95"], 3))
    for end, name in enumerate(("from", "to")):
        table.add_row(f"95 % {name}", *(f"{whole[f'{key}_ci95'][end]:.4f}" for key in COLUMNS))
    console.print(table)
    axes = ", ".join(f"{axis} {whole[f'{axis}_f1']:.4f} {interval(whole[f'{axis}_f1_ci95'], 3)}" for axis in AXES)
    console.print(f"macro F1 of each axis' classes: {axes}")
    console.print(f"out-of-fold macro F1 {whole['macro_f1']:.4f}, 95 % {interval(whole['macro_f1_ci95'])}")
    console.print(
        f"a new set like the eval side, by one fold's model: board95 {interval(whole['board95'])}, "
        f"half {interval(whole['board_half95'])}"
    )
    console.print(said_of_gain(gain, len(summary["folds"])))
    if summary["selection"] == SELECTED:
        console.print(f"these scores flatter: {summary['selection']}")
    if baseline is not None and whole["macro_f1"] <= baseline[1]:
        console.print(f"it does not beat a baseline: {baseline[0]} scores {baseline[1]:.4f}")
    if not summary["complete"]:
        console.print("not all folds are trained: these scores are of the finished ones")


def said_of_gain(gain: dict | None, folds: int) -> str:
    """In a sentence, what the mean of fold models adds to the score of one."""
    if gain is None:
        return (
            f"the mean of the {folds} fold models mostly scores higher; by how much, a second run with another seed "
            "and `evaluate.py` on both tell"
        )
    return (
        f"the mean of the fold models adds about {gain['gain']:+.4f} {interval(gain['ci95'])} to one of them "
        f"(estimated from {', '.join(gain['from'])})"
    )


def print_classes(oof: OutOfFold, console: Console | None = None) -> None:
    """Support, precision, recall and F1 of the 18 classes, with the F1's interval over people."""
    console = console or wide_console()
    table = Table(title="classes, out-of-fold", title_justify="left")
    table.add_column("class")
    for title in ("photos", "precision", "recall", "F1 [95 %]"):
        table.add_column(title, justify="right")
    bounds = class_intervals(oof.label, oof.pred_labels, oof.person_id)
    for row, ends in zip(class_table(oof.label, oof.pred_labels), bounds, strict=True):
        numbers = (f"{row['precision']:.3f}", f"{row['recall']:.3f}", f"{row['f1']:.3f} {interval(ends, 3)}")
        table.add_row(f"{row['label']:2d} {row['name']}", f"{row['support']:,}", *numbers)
    console.print(table)


def print_calibration(oof: OutOfFold, figure: Path, console: Console | None = None) -> None:
    """Whether the probabilities mean what they say, before and after a cross-fitted temperature; draws the diagram."""
    console = console or wide_console()
    from maskfold.pages.figures import reliability_diagram

    before, after, temperature = before_and_after(oof)
    drawn = reliability_diagram(before, after, temperature)
    write_atomic(figure, lambda beside: drawn.savefig(beside, dpi=110))
    if after is None:
        console.print(
            f"calibration: error {before.error:.4f}, temperature {temperature:.3f}; of a single fold nothing can be "
            f"cross-fitted ({figure})"
        )
        return
    probs, temperatures = cross_fitted(oof)
    console.print(
        f"calibration: temperature {temperature:.3f} (by fold {min(temperatures.values()):.3f} to "
        f"{max(temperatures.values()):.3f}); cross-fitted, the calibration error goes from {before.error:.4f} to "
        f"{after.error:.4f}, log loss from {log_loss(oof.probs, oof.label):.4f} to {log_loss(probs, oof.label):.4f} "
        f"({figure})"
    )


def print_submission_score(submission: Path, truth: Path) -> None:
    """A submission's score on its truth, beside what its manifest (where it lies beside) expected."""
    found = scores(*with_truth(submission, truth))
    print(f"{submission}: " + ", ".join(f"{title} {found[key]:.4f}" for key, title in COLUMNS.items()))
    manifest = submission.with_suffix(".json")
    if not manifest.exists():
        return
    held = read_json(manifest, "make the submission again")
    expected = held.get("expected")
    if not isinstance(expected, dict) or held.get("csv_sha256") != sha256(submission):
        print(f"{manifest} is not this file's manifest: nothing is compared")
        return
    if bounds := expected["board95"]:
        where = "under" if found["macro_f1"] < bounds[0] else "over" if found["macro_f1"] > bounds[1] else "inside"
        print(f"out-of-fold {expected['macro_f1']:.4f}, board95 {interval(bounds)}: the score is {where} it")


def print_ladder(found: dict[str, dict], console: Console | None = None) -> None:
    """Baselines, lowest first, with the interval of their macro F1."""
    console = console or wide_console()
    table = Table(title="baselines: out-of-fold", title_justify="left")
    table.add_column("baseline")
    table.add_column("macro F1 [95 %]", justify="right")
    for title in list(COLUMNS.values())[1:]:
        table.add_column(title, justify="right")
    for name, row in found.items():
        rest = [f"{row[key]:.3f}" for key in list(COLUMNS)[1:]]
        table.add_row(name, f"{row['macro_f1']:.3f} {interval(row['macro_f1_ci95'], 3)}", *rest)
    console.print(table)
