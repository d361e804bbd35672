"""The page that compares several runs.

In figures, a letter marks each run: letters are in every font, and they distinguish runs without colour.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import ascii_uppercase

import numpy as np

from maskfold.config.experiment import flatten
from maskfold.errors import UserError
from maskfold.evaluation.compare import differences
from maskfold.fileio import check_output, write_text
from maskfold.inference.unchanged_inputs import report_inputs
from maskfold.metrics.score_text import ci_text
from maskfold.metrics.scores import METRICS, class_table, scores
from maskfold.pages.figures import CURVES, class_f1_dots, learning_curves
from maskfold.pages.html_page import PERSON_ID_NOTICE, Section, figure, metric_name, note, page, table
from maskfold.probabilities import OutOfFold, load_predictions, mean, same_labels
from maskfold.report.page_record import with_record
from maskfold.runs.run_folder import RunFolder, fold_name
from maskfold.runs.summary import summarise

SCORES_HINT = (
    "Out-of-fold scores: each photo is predicted by the fold model that was not trained on its person; intervals are "
    "95 % over people."
)


def write_comparison(runs: Sequence[RunFolder], path: Path) -> Path:
    """Write the page for 2 to 26 runs that have photos in common. Raises UserError if they cannot be compared."""
    if not 2 <= len(runs) <= len(ascii_uppercase):
        raise UserError(
            f"{len(runs)} runs: a comparison page holds 2 to {len(ascii_uppercase)}; give 2 to {len(ascii_uppercase)} "
            "run folders"
        )
    check_output(path.parent, "--out", path)
    inputs = report_inputs(runs)
    letters, names = ascii_uppercase[: len(runs)], [run.name for run in runs]
    summaries = [summarise(run) for run in runs]
    oofs = [load_predictions(run.folder / "oof.npz", out_of_fold=True) for run in runs]
    # Compare before the slow parts, because this raises UserError for runs that cannot be compared.
    verdicts = [differences((names[0], run.name), oofs[0], oof) for run, oof in zip(runs[1:], oofs[1:], strict=True)]
    histories = {letter: _mean_history(run) for letter, run in zip(letters, runs, strict=True)}
    classes = {letter: class_table(oof.label, oof.pred_labels) for letter, oof in zip(letters, oofs, strict=True)}
    sections = [
        Section("Scores", _scores(letters, summaries, oofs), SCORES_HINT),
        Section(
            "Paired differences",
            "".join(_difference(names[0], name, lines) for name, lines in zip(names[1:], verdicts, strict=True)),
            f"Each list compares one run with {names[0]} on the photos that both predict; an interval that contains 0 "
            "shows no difference.",
        ),
        Section(
            "Learning curves",
            figure(learning_curves(histories, CURVES), "Mean over the folds by epoch, one line per run"),
            "Each line is the mean over the folds of one run; a letter stands for the run in the table of scores.",
        ),
        Section(
            "F1 per class",
            figure(class_f1_dots(classes), "F1 of each class, one letter per run"),
            "Each letter is one run; classes with few people vary most from run to run.",
        ),
        Section(
            "Configuration",
            _configurations(letters, runs),
            "Only the keys whose values differ between the runs.",
        ),
    ]
    text = page(f"Comparison: {' · '.join(names)}", sections, PERSON_ID_NOTICE)
    write_text(path, with_record(text, inputs))
    return path


def _difference(first: str, second: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h3>{escape(first)} and {escape(second)}</h3><ul>{items}</ul>"


def _scores(letters: str, summaries: Sequence[dict], oofs: Sequence[OutOfFold]) -> str:
    keys = [key for key in METRICS if not key.endswith("_f1") or key == "macro_f1"]
    rows = [
        [
            f"{letter}: {summary['name']}",
            f"{len(oof.label):,}",
            *(f"{summary['oof'][key]:.4f}" for key in keys),
            ci_text(summary["oof"]["macro_f1_ci95"]),
            f"{sum(row['seconds'] for row in summary['folds']):,.0f}",
            summary["selection"] + ("" if summary["complete"] else "; not all folds"),
        ]
        for letter, summary, oof in zip(letters, summaries, oofs, strict=True)
    ]
    if same_labels(oofs) and set.intersection(*(set(oof.image_id) for oof in oofs)):
        blend = mean(oofs)
        blend_scores = scores(blend.label, blend.pred_labels)
        blend_cells = [f"{blend_scores[key]:.4f}" for key in keys]
        rows.append(["mean of all runs", f"{len(blend.label):,}", *blend_cells, "", "", ""])
    names = [metric_name(key) for key in keys]
    return table(
        "Out-of-fold scores by run", ["run", "photos", *names, "macro F1, 95 %", "training seconds", "weights"], rows
    )


def _mean_history(run: RunFolder) -> list[dict]:
    """Return one row per epoch: the mean of each key of CURVES over the folds that have this key in this epoch."""
    histories = [run.read_metrics(fold_name(fold)) for fold in run.finished_folds]
    rows = []
    for index in range(max(map(len, histories))):
        fold_rows = [history[index] for history in histories if index < len(history)]
        values_by_key = {key: [row[key] for row in fold_rows if key in row] for key in CURVES}
        means = {key: float(np.mean(values)) for key, values in values_by_key.items() if values}
        rows.append({"epoch": index + 1} | means)
    return rows


def _configurations(letters: str, runs: Sequence[RunFolder]) -> str:
    flat = [flatten(run.config.model_dump(mode="json")) for run in runs]
    differing = [key for key in flat[0] if len({str(each[key]) for each in flat}) > 1]
    if not differing:
        return note("The configurations are equal.")
    rows = [[key, *(str(each[key]) for each in flat)] for key in differing]
    return table("Keys that differ", ["key", *letters], rows, numbers=False)
