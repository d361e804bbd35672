"""The effect of label corrections on a run: scores of its out-of-fold predictions on original and corrected labels."""

from pathlib import Path

import numpy as np
from rich.console import Console

from maskfold.data.images_table import Prepared
from maskfold.data.label_changes import relabelled
from maskfold.evaluation.score_tables import terminal_table, wide_console
from maskfold.metrics.bootstrap import score_intervals
from maskfold.metrics.score_text import METRIC_TITLES, ci_text
from maskfold.metrics.scores import scores
from maskfold.probabilities import OutOfFold


def print_corrected_scores(
    name: str, oof: OutOfFold, prepared: Prepared, corrections: Path, console: Console | None = None
) -> None:
    """Print the scores with and without the corrections, and which labels the predictions agree with.

    Raises UserError if the corrections have errors, or if the raw data is missing or has changed.
    """
    console = console or wide_console()
    (original, _), (corrected, report) = relabelled(prepared, None), relabelled(prepared, corrections)
    before, after = (labels.loc[oof.image_id].to_numpy() for labels in (original, corrected))
    labels_by_name = {"original": before, "corrected": after}
    if not any(np.array_equal(labels, oof.label) for labels in labels_by_name.values()):
        labels_by_name = {"trained on": oof.label, **labels_by_name}
    columns = ("labels", *METRIC_TITLES.values(), "macro F1, 95 %")
    table = terminal_table(f"{name}: out-of-fold, with and without {corrections}", *columns)
    for title, labels in labels_by_name.items():
        values = scores(labels, oof.pred_labels)
        bounds = score_intervals(labels, oof.pred_labels, oof.person_id, 0)["macro_f1_ci95"]
        suffix = " (trained on)" if title != "trained on" and np.array_equal(labels, oof.label) else ""
        table.add_row(title + suffix, *(f"{values[key]:.4f}" for key in METRIC_TITLES), ci_text(bounds, 3))
    console.print(table)
    changed = before != after
    people = len(np.unique(oof.person_id[changed]))
    agreeing = [int((oof.pred_labels == labels)[changed].sum()) for labels in (before, after)]
    console.print(
        f"the corrections change the label of {changed.sum():,} photos of {people:,} people; the prediction is the "
        f"original label for {agreeing[0]:,} of them and the corrected label for {agreeing[1]:,}"
    )
    absent = report["not_in_data"]
    console.print(
        f"corrections: {len(report['changed'])} applied, {report['already_so']} already correct, {len(absent)} for "
        "people who are not in the data" + (f" ({', '.join(absent)})" if absent else "")
    )
    console.print(
        "the corrected score is optimistically biased if this run's predictions were used to find the corrections "
        "(audit.py)"
    )
    for change in report["changed"]:
        console.print(f"  {change}")
