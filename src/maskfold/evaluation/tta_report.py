"""What each test-time view is worth, out-of-fold: alone, and as a part of the list."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from maskfold.evaluation.score_tables import interval, wide_console
from maskfold.inference.cache import predict_runs, prepared_of
from maskfold.metrics.bootstrap import compare
from maskfold.metrics.scores import macro_f1
from maskfold.models.tta import canonical_views
from maskfold.probabilities import OutOfFold, mean
from maskfold.runs.run_folder import RunFolder


def print_view_report(runs: Sequence[RunFolder], tta: Sequence[str], console: Console | None = None) -> None:
    """For each run a table: each view's score, its gain over `none`, and what leaving it out of the list costs.

    Each view is predicted by itself and kept in the run's folder. Raises UserError for an unknown view.
    """
    console, views = console or wide_console(), canonical_views(tta, "--tta")
    datasets = [prepared_of(run) for run in runs]
    seen = {view: [oof for _, oof in predict_runs(runs, datasets, (view,))] for view in dict.fromkeys(("none", *views))}
    for at, run in enumerate(runs):
        console.print(_table(run.name, {view: found[at] for view, found in seen.items()}, views))


def _table(name: str, seen: dict[str, OutOfFold], views: Sequence[str]) -> Table:
    table = Table(title=f"{name}: views, out-of-fold", title_justify="left")
    table.add_column("view")
    for title in ("macro F1 alone", "less that of none [95 %]", "leaving it out costs [95 %]"):
        table.add_column(title, justify="right")
    first, together = seen["none"], mean([seen[view] for view in views])
    labels, people = first.label, first.person_id

    def less(one: np.ndarray, other: np.ndarray) -> str:
        found = compare(labels, one, other, people)
        return f"{found.difference:+.4f} {interval(found.ci95)}"

    for view in seen:
        rest = [seen[other] for other in views if other != view]
        cost = less(together.pred_labels, mean(rest).pred_labels) if view in views and rest else ""
        gain = "" if view == "none" else less(seen[view].pred_labels, first.pred_labels)
        table.add_row(view, f"{macro_f1(labels, seen[view].pred_labels):.4f}", gain, cost)
    table.add_section()
    table.add_row(
        "+".join(views), f"{macro_f1(labels, together.pred_labels):.4f}", less(together.pred_labels, first.pred_labels)
    )
    return table
