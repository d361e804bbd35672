"""What evaluate.py tells of runs: each by itself, then against the first."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maskfold.evaluation.baseline_scores import best_rung
from maskfold.evaluation.compare import print_comparison
from maskfold.evaluation.corrected_scores import print_relabelled
from maskfold.evaluation.members import print_members
from maskfold.evaluation.score_tables import print_calibration, print_classes, print_summary, said_of_gain
from maskfold.inference.cache import out_of_fold, prepared_of
from maskfold.inference.cross_fit import cross_fit, fit
from maskfold.inference.ensemble_gain import are_repeats, gain_of_folds, record_gain
from maskfold.probabilities import OutOfFold, join, load_predictions, same_labels
from maskfold.runs.run_folder import RunFolder
from maskfold.runs.summary import summarise

FIGURE = "reliability.png"


def evaluate(runs: Sequence[RunFolder], corrections: Path | None = None) -> None:
    """Print scores, classes and calibration of each run; of several also how they compare and what repeats tell.

    corrections: a file whose effect on each run's score is printed too. Raises UserError where a run has nothing to
    evaluate, runs have nothing in common, or the corrections have faults.
    """
    summaries = [summarise(run) for run in runs]
    oofs = [load_predictions(run.folder / "oof.npz", out_of_fold=True) for run in runs]
    for run, summary, oof in zip(runs, summaries, oofs, strict=True):
        print_summary(summary, baseline=best_rung(run), gain=gain_of_folds([run]))
        print_classes(oof)
        print_calibration(oof, run.folder / FIGURE)
        if corrections is not None:
            prepared = prepared_of(run)
            print_relabelled(run.name, out_of_fold(run, prepared), prepared, corrections)
    for run, oof in zip(runs[1:], oofs[1:], strict=True):
        print_comparison((runs[0].name, run.name), oofs[0], oof)
    if len(runs) == 1 or not same_labels(oofs):
        return
    _print_members([run.name for run in runs], oofs)
    if are_repeats([run.config for run in runs]):
        print(said_of_gain(record_gain(runs), len(summaries[0]["folds"])))


def _print_members(names: Sequence[str], oofs: Sequence[OutOfFold]) -> None:
    """What each is worth in the mean of all."""
    joined = join(oofs)
    labels, people, members = joined[0].label, joined[0].person_id, np.stack([oof.probs for oof in joined])
    fitted = fit(members, labels, people, "mean", "argmax")
    crossed = cross_fit(members, labels, people, "mean", "argmax")
    print_members(names, crossed, labels, people, fitted.weights, fitted.temperatures)
