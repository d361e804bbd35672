"""Scores as tables for the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from maskfold.analysis.metrics import scores
from maskfold.files import read_json, sha256
from maskfold.inference.answers import with_truth
from maskfold.training.summary import SELECTED

COLUMNS = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "mask_accuracy": "mask",
    "gender_accuracy": "gender",
    "age_accuracy": "age",
}


def interval(bounds: list[float] | None, digits: int = 4) -> str:
    return "none (no eval side)" if bounds is None else f"[{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"


def print_summary(summary: dict, console: Console | None = None, baseline: tuple[str, float] | None = None) -> None:
    """A run's out-of-fold scores per fold and overall, what a new set may score, and whether it beats the baseline."""
    # A pipe has no width of its own: rich would cut the table at 80.
    console = console or Console(width=None if Console().is_terminal else 110)
    table = Table(title=f"{summary['name']}: out-of-fold", title_justify="left")
    table.add_column("fold")
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    table.add_column("images/s", justify="right")
    for row in summary["folds"]:
        table.add_row(str(row["fold"]), *(f"{row[key]:.4f}" for key in COLUMNS), f"{row['images_per_second']:,.0f}")
    table.add_section()
    whole = summary["oof"]
    table.add_row("all", *(f"{whole[key]:.4f}" for key in COLUMNS))
    console.print(table)
    console.print(
        f"out-of-fold macro F1 {whole['macro_f1']:.4f}, 95 % {interval(whole['macro_f1_ci95'])}", highlight=False
    )
    console.print(
        f"a new set like the eval side: board95 {interval(whole['board95'])}, half {interval(whole['board_half95'])}",
        highlight=False,
    )
    if summary["selection"] == SELECTED:
        console.print(f"these scores flatter: {summary['selection']}", highlight=False)
    if baseline is not None and whole["macro_f1"] <= baseline[1]:
        console.print(f"it does not beat a baseline: {baseline[0]} scores {baseline[1]:.4f}", highlight=False)
    if not summary["complete"]:
        console.print("not all folds are trained: these scores are of the finished ones", highlight=False)


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
    console = console or Console(width=None if Console().is_terminal else 110)
    table = Table(title="baselines: out-of-fold", title_justify="left")
    table.add_column("baseline")
    table.add_column("macro F1 [95 %]", justify="right")
    for title in list(COLUMNS.values())[1:]:
        table.add_column(title, justify="right")
    for name, row in found.items():
        rest = [f"{row[key]:.3f}" for key in list(COLUMNS)[1:]]
        table.add_row(name, f"{row['macro_f1']:.3f} {interval(row['macro_f1_ci95'], 3)}", *rest)
    console.print(table)
