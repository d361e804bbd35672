"""Several runs on one page. In figures a run is a letter: no font need hold its name, no colour tell it apart."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import ascii_uppercase

import numpy as np

from maskfold.config.experiment import flatten
from maskfold.errors import UserError
from maskfold.evaluation.compare import differences
from maskfold.evaluation.score_tables import interval
from maskfold.fileio import write_text
from maskfold.metrics.scores import METRICS, class_table, scores
from maskfold.pages.figures import class_dots, curves
from maskfold.pages.html_page import figure, note, page, section, table
from maskfold.probabilities import OutOfFold, load_predictions, mean, same_labels
from maskfold.runs.run_folder import RunFolder, fold_name
from maskfold.runs.summary import summarise

FILE = "comparison.html"
CURVES = {"train_loss": "training loss", "val_loss": "validation log loss", "macro_f1": "validation macro F1"}


def write_comparison(runs: Sequence[RunFolder], path: Path) -> Path:
    """Write the page of two to 26 runs on the same photos. Raises UserError where they can't be compared."""
    if not 2 <= len(runs) <= len(ascii_uppercase):
        raise UserError(f"{len(runs)} runs: 2 to {len(ascii_uppercase)} fit on a comparison page")
    letters, names = ascii_uppercase[: len(runs)], [run.name for run in runs]
    summaries = [summarise(run) for run in runs]
    oofs = [load_predictions(run.folder / "oof.npz", out_of_fold=True) for run in runs]
    # First: it refuses runs that can't be compared.
    said = [differences((names[0], run.name), oofs[0], oof) for run, oof in zip(runs[1:], oofs[1:], strict=True)]
    histories = {letter: _mean_history(run) for letter, run in zip(letters, runs, strict=True)}
    classes = {letter: class_table(oof.label, oof.pred_labels) for letter, oof in zip(letters, oofs, strict=True)}
    sections = [
        f"<h1>{escape(' · '.join(names))}</h1>",
        note("Out-of-fold, with 95 % intervals over people."),
        _scores(letters, summaries, oofs),
        section(f"Against {names[0]}", "".join(f"<p>{'<br>'.join(map(escape, lines))}</p>" for lines in said)),
        section("Training", figure(curves(histories, CURVES), "Means over the folds by epoch, a line a run")),
        section("The 18 classes", figure(class_dots(classes), "F1 of each class, a mark a run")),
        section("What differs in the configuration", _configurations(letters, runs)),
    ]
    write_text(path, page(" · ".join(names), sections))
    return path


def _scores(letters: str, summaries: Sequence[dict], oofs: Sequence[OutOfFold]) -> str:
    keys = [key for key in METRICS if not key.endswith("_f1") or key == "macro_f1"]
    rows = [
        [
            f"{letter}: {summary['name']}",
            f"{len(oof.label):,}",
            *(f"{summary['oof'][key]:.4f}" for key in keys),
            interval(summary["oof"]["macro_f1_ci95"]),
            f"{sum(row['seconds'] for row in summary['folds']):,.0f}",
            summary["selection"] + ("" if summary["complete"] else ", not all folds"),
        ]
        for letter, summary, oof in zip(letters, summaries, oofs, strict=True)
    ]
    if same_labels(oofs) and set.intersection(*(set(oof.image_id) for oof in oofs)):
        joined = mean(oofs)
        found = scores(joined.label, joined.pred_labels)
        rows.append(["the mean of all", f"{len(joined.label):,}", *(f"{found[key]:.4f}" for key in keys), "", "", ""])
    heads = [key.replace("_accuracy", "").replace("_", " ") for key in keys]
    return table(["run", "photos", *heads, "macro F1, 95 %", "seconds", "weights"], rows)


def _mean_history(run: RunFolder) -> list[dict]:
    """The folds' mean of each curve by epoch, over those that got so far and have it."""
    histories = [run.read_metrics(fold_name(fold)) for fold in run.finished_folds]
    rows = []
    for at in range(max(map(len, histories))):
        there = [history[at] for history in histories if at < len(history)]
        known = {key: [row[key] for row in there if key in row] for key in CURVES}
        rows.append({"epoch": at + 1} | {key: float(np.mean(values)) for key, values in known.items() if values})
    return rows


def _configurations(letters: str, runs: Sequence[RunFolder]) -> str:
    flat = [flatten(run.config.model_dump(mode="json")) for run in runs]
    differing = [key for key in flat[0] if len({str(each[key]) for each in flat}) > 1]
    if not differing:
        return note("Nothing.")
    return table(["key", *letters], [[key, *(str(each[key]) for each in flat)] for key in differing], numbers=False)
