"""Print what each TTA view gains out-of-fold, alone and together with the other views."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from maskfold.evaluation.score_tables import terminal_table, wide_console
from maskfold.inference.cached_predictions import predict_runs
from maskfold.metrics.paired_comparison import compare
from maskfold.metrics.score_text import ci_text
from maskfold.metrics.scores import macro_f1
from maskfold.models.tta import canonical_views
from maskfold.probabilities import OutOfFold, mean
from maskfold.runs.run_data import prepared_of
from maskfold.runs.run_folder import RunFolder


def print_tta_report(runs: Sequence[RunFolder], tta: Sequence[str], console: Console | None = None) -> None:
    """Print a table per run: each TTA view's score, its gain over `none`, and the cost of leaving it out of `tta`.

    The predictions of each view are kept in --cache or the run folder. Raises UserError for an unknown view, or if the
    data has no eval set.
    """
    console, views = console or wide_console(), canonical_views(tta, "--tta")
    datasets = [prepared_of(run) for run in runs]
    oofs_by_view = {
        view: [oof for _, oof in predict_runs(runs, datasets, (view,))] for view in dict.fromkeys(("none", *views))
    }
    for index, run in enumerate(runs):
        console.print(_table(run.name, {view: oofs[index] for view, oofs in oofs_by_view.items()}, views))


def _table(name: str, oof_by_view: dict[str, OutOfFold], views: Sequence[str]) -> Table:
    columns = ("TTA view", "macro F1 alone", "gain over none [95 %]", "cost of leaving it out [95 %]")
    table = terminal_table(f"{name}: TTA views, out-of-fold", *columns)
    first, averaged = oof_by_view["none"], mean([oof_by_view[view] for view in views])
    labels, people = first.label, first.person_id

    def difference(one: np.ndarray, other: np.ndarray) -> str:
        comparison = compare(labels, one, other, people)
        return f"{comparison.difference:+.4f} {ci_text(comparison.ci95)}"

    for view, oof in oof_by_view.items():
        rest = [oof_by_view[other] for other in views if other != view]
        cost = difference(averaged.pred_labels, mean(rest).pred_labels) if view in views and rest else ""
        gain = "" if view == "none" else difference(oof.pred_labels, first.pred_labels)
        table.add_row(view, f"{macro_f1(labels, oof.pred_labels):.4f}", gain, cost)
    table.add_section()
    gain = difference(averaged.pred_labels, first.pred_labels)
    table.add_row("+".join(views), f"{macro_f1(labels, averaged.pred_labels):.4f}", gain)
    return table
