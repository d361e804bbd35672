"""What corrections do to a run's score: its out-of-fold answers on the labels as given, and on the corrected ones."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from maskfold.data.images_table import Prepared
from maskfold.data.label_changes import relabelled
from maskfold.evaluation.score_tables import COLUMNS, interval, wide_console
from maskfold.metrics.bootstrap import intervals
from maskfold.metrics.scores import scores
from maskfold.probabilities import OutOfFold


def print_relabelled(
    name: str, oof: OutOfFold, prepared: Prepared, corrections: Path, console: Console | None = None
) -> None:
    """Scores without and with the corrections, and whom the answers follow where the labels differ.

    Raises UserError for faults in the corrections, and where the raw data is gone.
    """
    console = console or wide_console()
    (given, _), (corrected, report) = relabelled(prepared, None), relabelled(prepared, corrections)
    before, after = (labels.loc[oof.image_id].to_numpy() for labels in (given, corrected))
    ways = {"as given": before, "corrected": after}
    if not any(np.array_equal(labels, oof.label) for labels in ways.values()):
        ways = {"trained on": oof.label, **ways}
    table = Table(title=f"{name}: out-of-fold, without and with {corrections}", title_justify="left")
    table.add_column("labels")
    for title in (*COLUMNS.values(), "macro F1, 95 %"):
        table.add_column(title, justify="right")
    for words, labels in ways.items():
        found = scores(labels, oof.pred_labels)
        bounds = intervals(labels, oof.pred_labels, oof.person_id, 0)["macro_f1_ci95"]
        learned = " (trained on)" if words != "trained on" and np.array_equal(labels, oof.label) else ""
        table.add_row(words + learned, *(f"{found[key]:.4f}" for key in COLUMNS), interval(bounds, 3))
    console.print(table)
    moved = before != after
    people = len(np.unique(oof.person_id[moved]))
    follows = [int((oof.pred_labels == labels)[moved].sum()) for labels in (before, after)]
    console.print(
        f"{moved.sum():,} photos of {people:,} people get another label; the answer is the one given in "
        f"{follows[0]:,} of them, the corrected one in {follows[1]:,}"
    )
    absent = report["not_in_data"]
    console.print(
        f"corrections: {len(report['changed'])} made, {report['already_so']} already correct, {len(absent)} not in the "
        "data" + (f" ({', '.join(absent)})" if absent else "")
    )
    console.print(
        "an audit's proposals are chosen by such answers: where they are this run's, the corrected score flatters"
    )
    for change in report["changed"]:
        console.print(f"  {change}")
