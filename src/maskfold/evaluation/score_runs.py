"""Print the scores of each run, then a comparison of the first run with each of the others."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.evaluation.baseline_scores import best_baseline
from maskfold.evaluation.compare import print_comparison
from maskfold.evaluation.corrected_scores import print_corrected_scores
from maskfold.evaluation.members import print_members
from maskfold.evaluation.repeats import print_repeats
from maskfold.evaluation.score_tables import print_calibration, print_classes, print_summary
from maskfold.fileio import check_output, why_not_writable
from maskfold.inference.cached_predictions import load_oof
from maskfold.inference.cross_fit import cross_fit, fit
from maskfold.inference.ensemble_gain import are_repeats, load_gain
from maskfold.loading.photo_shift import check_shift
from maskfold.probabilities import OutOfFold, join, load_predictions, same_labels
from maskfold.runs.run_data import prepared_if_found, prepared_of
from maskfold.runs.run_folder import RunFolder, check_distinct_names
from maskfold.runs.summary import summarise

FIGURE = "reliability.png"


def evaluate(runs: Sequence[RunFolder], corrections: Path | None = None, out: Path | None = None) -> None:
    """Print the scores, classes and calibration of each run, and the warnings of check_shift.

    For several runs, also print how the first run compares with each of the others and, if their labels are equal, what
    each run contributes to the mean of all. For repeats of one experiment, print_repeats also prints their mean and
    spread, and records the gain from averaging the fold models.

    corrections: a file whose effect on each run's score is printed too. out: folder for the reliability diagrams, with
    a subfolder for each run if there are several; None for the folder of each run, without a diagram if this folder
    cannot be written. Raises UserError if a run has no out-of-fold predictions, if runs have no photo in common, if the
    corrections have errors, or if --data.root or --data.prepared is not the data of a run.
    """
    if out is not None:
        check_output(out, "--out")
        check_distinct_names(runs, "--out")
    summaries = [summarise(run) for run in runs]
    datasets = [prepared_if_found(run) for run in runs]
    oofs = [load_predictions(run.folder / "oof.npz", out_of_fold=True) for run in runs]
    for run, summary, oof, prepared in zip(runs, summaries, oofs, datasets, strict=True):
        print_summary(summary, run.config, baseline=best_baseline(prepared), gain=load_gain([run]))
        print_classes(oof)
        print_calibration(oof, _figure_path(run, out if out is None or len(runs) == 1 else out / run.name))
        if corrections is not None:
            prepared = prepared or prepared_of(run)
            print_corrected_scores(run.name, load_oof(run, prepared), prepared, corrections)
    for run, oof in zip(runs[1:], oofs[1:], strict=True):
        print_comparison((runs[0].name, run.name), oofs[0], oof)
    _print_shift([prepared for prepared in datasets if prepared is not None])
    if len(runs) == 1 or not same_labels(oofs):
        return
    _print_members([run.name for run in runs], oofs)
    if are_repeats(runs):
        print_repeats(runs, oofs)


def _print_shift(datasets: Sequence[Prepared]) -> None:
    """Print the warnings and notes of check_shift, each once.

    If --data.root is not given, data for which check_shift raises UserError is skipped.
    """
    lines = []
    for prepared in datasets:
        try:
            lines += check_shift(prepared)[1]
        except UserError:
            if prepared.places.root is not None:
                raise
    print("\n".join(dict.fromkeys(lines)), end="\n" if lines else "")


def _figure_path(run: RunFolder, out: Path | None) -> Path | None:
    """Return the path of the reliability diagram; if the run folder cannot be written, print a note and return None."""
    cause = why_not_writable(run.folder) if out is None else None
    if cause is None:
        return (out or run.folder) / FIGURE
    print(
        f"note: {run.folder}: cannot be written ({cause}), so the reliability diagram is left out; use --out FOLDER",
        file=sys.stderr,
    )
    return None


def _print_members(names: Sequence[str], oofs: Sequence[OutOfFold]) -> None:
    """Print what each run contributes to the mean of all runs."""
    joined = join(oofs)
    labels, people, members = joined[0].label, joined[0].person_id, np.stack([oof.probs for oof in joined])
    fitted = fit(members, labels, people, "mean", "argmax")
    crossed = cross_fit(members, labels, people, "mean", "argmax")
    print_members(names, crossed, joined[0], fitted)
