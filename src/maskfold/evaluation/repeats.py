"""Print the scores of repeats of one experiment together."""

from collections.abc import Sequence

from rich.console import Console

from maskfold.config.experiment import selects_on_validation
from maskfold.evaluation.score_tables import gain_sentence, terminal_table, wide_console
from maskfold.inference.ensemble_gain import record_gain
from maskfold.metrics.score_text import METRIC_TITLES, ci_text
from maskfold.metrics.seed_spread import seed_spread
from maskfold.probabilities import OutOfFold, join
from maskfold.runs.run_folder import RunFolder
from maskfold.runs.summary import SELECTED


def print_repeats(runs: Sequence[RunFolder], oofs: Sequence[OutOfFold], console: Console | None = None) -> None:
    """Print the metrics of each repeat, their mean, spread and interval, and the gain from averaging the fold models.

    The repeats are scored on the photos that all of them predict. The gain is written to gain.json (see record_gain).
    oofs: the out-of-fold predictions of the runs, with equal labels. Raises UserError if the runs have no photo in
    common.
    """
    console, joined = console or wide_console(), join(oofs)
    labels, people = joined[0].label, joined[0].person_id
    spreads = seed_spread(labels, [oof.pred_labels for oof in joined], people)
    table = terminal_table("repeats: out-of-fold", "run", "seed", "fold seed", *METRIC_TITLES.values())
    for index, run in enumerate(runs):
        config, values = run.config, [f"{spreads[key].values[index]:.4f}" for key in METRIC_TITLES]
        table.add_row(run.name, str(config.seed), str(config.data.fold_seed), *values)
    table.add_section()
    table.add_row("mean", "", "", *(f"{spreads[key].mean:.4f}" for key in METRIC_TITLES))
    table.add_row("standard deviation", "", "", *(f"{spreads[key].std:.4f}" for key in METRIC_TITLES))
    for end, name in enumerate(("low", "high")):
        table.add_row(f"95 % {name}", "", "", *(f"{spreads[key].interval95[end]:.4f}" for key in METRIC_TITLES))
    console.print(table)
    spread = spreads["macro_f1"]
    console.print(
        f"{len(runs)} repeats: mean macro F1 {spread.mean:.4f}, standard deviation over repeats {spread.std:.4f}, 95 % "
        f"interval over people and seeds {ci_text(spread.interval95)}"
    )
    if any(len(oof.image_id) > len(labels) for oof in oofs):
        console.print(f"the repeats are scored on the {len(labels):,} photos that all of them predict")
    if selects_on_validation(runs[0].config):
        console.print(f"these scores are optimistically biased: {SELECTED}")
    console.print(gain_sentence(record_gain(runs), runs[0].config.data.folds))


def repeat_line(summary: dict, run: RunFolder) -> str:
    """Return a line on a repeat that has just been trained; summary: the content of its summary.json."""
    whole = summary["oof"]
    score = f"out-of-fold macro F1 {whole['macro_f1']:.4f}, 95 % interval {ci_text(whole['macro_f1_ci95'])}"
    rest = "" if summary["complete"] else "; not all folds are trained"
    return f"{summary['name']}: {score}{rest} ({run.folder})"
