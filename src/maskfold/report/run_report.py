"""A run's report: one HTML page that a team reads first, with nothing to load from anywhere."""

from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from maskfold.audit.label_noise import PROPOSED, SURE, suspects
from maskfold.config.experiment import Config, flatten
from maskfold.evaluation.score_tables import interval
from maskfold.fileio import write_text
from maskfold.inference.cache import load_oof, prepared_of
from maskfold.labels import AXES
from maskfold.loading.store import open_store
from maskfold.metrics.bootstrap import class_intervals
from maskfold.metrics.calibration import assess_calibration
from maskfold.metrics.confusion import confusion_matrices
from maskfold.metrics.scores import METRICS, class_table
from maskfold.pages.figures import (
    class_bars,
    confusion_matrix,
    curves,
    reliability_diagram,
)
from maskfold.pages.html_page import figure, page, section, table
from maskfold.probabilities import OutOfFold
from maskfold.report.data_card import data_card
from maskfold.report.gradcam_section import where_it_looked
from maskfold.report.group_sections import by_age_and_photo, whom_it_serves
from maskfold.report.photo_sections import gallery, seen_by_the_model
from maskfold.runs.run_folder import RunFolder
from maskfold.runs.summary import summarise

FILE = "report.html"
# Keys that every run resolves: no choice of its owner's.
CHOSEN_AT_START = ("data.root", "data.prepared", "run.precision", "run.predict_precision")
LOSSES = {"train_loss": "training loss", "val_loss": "validation log loss", "macro_f1": "validation macro F1"}
# Of a run with a moving average: what it would score without.
LOSSES |= {"raw_macro_f1": "macro F1 without the average"}
WORK = {"lr": "learning rate", "grad_norm": "norm of the gradient", "images_per_second": "images/s"}


def write_report(run: RunFolder) -> Path:
    """Write report.html into the run's folder. Raises UserError where the run has nothing finished to report."""
    summary, prepared = summarise(run), prepared_of(run)
    oof = load_oof(run, prepared)
    store = open_store(prepared, prepared.images, run.config.data)
    histories = {part: run.read_metrics(part) for part in run.finished_parts}
    found, fits = suspects(oof)
    wrong = {axis: fit.rate for axis, fit in fits.items() if axis in PROPOSED and fit.evidence > SURE}
    sections = [
        _head(summary),
        section("Training", figure(curves(histories, LOSSES), "Losses and macro F1 by epoch, a line a fold")),
        section("What is taken for what", _confusion(oof)),
        section("The 18 classes", figure(_bars(oof), "F1 of each class with its 95 % interval, photos in brackets")),
        section("Do the probabilities mean what they say?", _calibration(oof)),
        section("By age and by photo", by_age_and_photo(oof, prepared)),
        section("Whom it serves, and whom worse", whom_it_serves(oof, prepared, store, found, fits)),
        section("The surest mistakes", gallery(oof, prepared, store)),
        section("Where it looked", where_it_looked(run, oof, prepared, store)),
        section("What the model saw", seen_by_the_model(run.config, prepared, store, run.finished_folds[0])),
        section("The work", figure(curves(histories, WORK), "Learning rate, gradient norm and throughput by epoch")),
        section("Data card", data_card(prepared, wrong)),
        section("Configuration", _configuration(run.config, summary)),
    ]
    path = run.folder / FILE
    write_text(path, page(run.name, sections))
    return path


def _head(summary: dict) -> str:
    whole = summary["oof"]
    rows = [[name.replace("_", " "), f"{whole[name]:.4f}", interval(whole[f"{name}_ci95"])] for name in METRICS]
    board = ""
    if whole["board95"] is not None:
        board = f" A new set like the eval side, by one fold's model: board95 {interval(whole['board95'])}, "
        board += f"half {interval(whole['board_half95'])}."
    unfinished = "" if summary["complete"] else " Not all folds are trained: these scores are of the finished ones."
    return (
        f"<h1>{escape(summary['name'])}</h1><p class='score'>macro F1 {whole['macro_f1']:.4f} "
        f"{interval(whole['macro_f1_ci95'])}</p><p class='note'>Out-of-fold, with 95 % intervals over people."
        f"{board} Weights: {escape(summary['selection'])}.{unfinished}</p>"
        f"<div class='row'>{table(['metric', 'score', '95 %'], rows)}"
        + table(
            ["fold", "macro F1", "95 %", "accuracy", "best epoch", "seconds"],
            [
                [
                    str(row["fold"]),
                    f"{row['macro_f1']:.4f}",
                    interval(row["macro_f1_ci95"]),
                    f"{row['accuracy']:.4f}",
                    str(row["best_epoch"]),
                    f"{row['seconds']:,.0f}",
                ]
                for row in summary["folds"]
            ],
        )
        + "</div>"
    )


def _confusion(oof: OutOfFold) -> str:
    found = {name: (names, np.array([row[1:] for row in rows])) for name, names, rows in confusion_matrices(oof)}
    drawn = {
        name: figure(confusion_matrix(counts, names), f"Confusion matrix: {name}")
        for name, (names, counts) in found.items()
    }
    return f"<div class='row'>{''.join(drawn[axis] for axis in AXES)}</div>{drawn['classes']}"


def _bars(oof: OutOfFold) -> Figure:
    return class_bars(
        class_table(oof.label, oof.pred_labels), class_intervals(oof.label, oof.pred_labels, oof.person_id)
    )


def _calibration(oof: OutOfFold) -> str:
    return figure(reliability_diagram(*assess_calibration(oof)), "Reliability diagram")


def _configuration(config: Config, summary: dict) -> str:
    own, defaults = (flatten(each.model_dump(mode="json")) for each in (config, Config()))
    changed = {key for key in own if own[key] != defaults[key] and key not in CHOSEN_AT_START}
    rows = "".join(
        f"<tr{' class=changed' if key in changed else ''}><td><code>{escape(key)}</code></td>"
        f"<td><code>{escape(str(value))}</code></td><td><code>{escape(str(defaults[key]))}</code></td></tr>"
        for key, value in own.items()
    )
    known = {key: summary[key] for key in ("dataset", "config_hash", "git_commit", "threads") if key in summary}
    known |= summary["versions"]
    versions = ", ".join(f"{escape(key)} {escape(str(value))}" for key, value in known.items())
    return f"<p class='note'>{versions}</p><table><tr><th>key</th><th>value</th><th>default</th></tr>{rows}</table>"
