"""The report of a run: one self-contained HTML page."""

from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from maskfold.audit.label_noise import CORRECTABLE_AXES, MIN_EVIDENCE, find_suspects
from maskfold.config.experiment import Config, flatten
from maskfold.evaluation.score_tables import submission_sentence
from maskfold.fileio import check_output, write_text
from maskfold.inference.cached_predictions import load_oof
from maskfold.inference.expected_score import expect_from_cache
from maskfold.inference.unchanged_inputs import report_inputs
from maskfold.labels import AXES
from maskfold.loading.store import open_store
from maskfold.metrics.bootstrap import class_intervals
from maskfold.metrics.calibration import assess_calibration
from maskfold.metrics.confusion import confusion_matrices
from maskfold.metrics.score_text import ci_text
from maskfold.metrics.scores import METRICS, class_table
from maskfold.pages.figures import (
    CURVES,
    class_f1_bars,
    confusion_matrix,
    learning_curves,
    reliability_diagram,
)
from maskfold.pages.html_page import Section, figure, html_table, metric_name, page, table
from maskfold.probabilities import OutOfFold
from maskfold.report.data_card import data_card
from maskfold.report.gradcam_section import gradcam_section
from maskfold.report.group_sections import age_and_photo_section, group_section
from maskfold.report.page_record import REPORT_FILE, with_record
from maskfold.report.photo_sections import augmentation_section, confident_errors_section
from maskfold.runs.run_data import prepared_of
from maskfold.runs.run_folder import RunFolder
from maskfold.runs.summary import summarise

# Keys that train.py fills in for every run: their values are not marked as changed by the user.
RESOLVED_KEYS = ("data.root", "data.prepared", "run.precision", "run.predict_precision")
# The last curve exists only in runs with an exponential moving average (EMA) of the weights.
FOLD_CURVES = CURVES | {"raw_macro_f1": "macro F1 without EMA"}
OPTIMISATION = {"lr": "learning rate", "grad_norm": "gradient norm", "images_per_second": "images per second"}


def write_report(run: RunFolder, path: Path | None = None) -> Path:
    """Write the page to `path`, by default report.html in the run folder. Raises UserError if no fold is finished."""
    path, inputs = path or run.folder / REPORT_FILE, report_inputs([run])
    check_output(path.parent, "--out", path)
    summary, prepared = summarise(run), prepared_of(run)
    oof = load_oof(run, prepared)
    store = open_store(prepared, prepared.images, run.config.data)
    histories = {part: run.read_metrics(part) for part in run.finished_parts}
    suspects, fits = find_suspects(oof)
    error_rates = {
        axis: fit.rate for axis, fit in fits.items() if axis in CORRECTABLE_AXES and fit.evidence > MIN_EVIDENCE
    }
    sections = [
        Section(
            "Scores",
            _scores(summary, expect_from_cache(run, prepared)),
            "Out-of-fold scores: each photo is predicted by the fold model that was not trained on its person; "
            "intervals are 95 % over people.",
        ),
        Section(
            "Learning curves",
            figure(learning_curves(histories, FOLD_CURVES), "Losses and macro F1 by epoch, one line per fold"),
            "A validation loss that rises while the training loss falls is a sign of overfitting.",
        ),
        Section(
            "Confusion matrices",
            _confusion(oof),
            "Each row is a true class: the number counts photos, the shade is the share of the row; errors are off the "
            "diagonal.",
        ),
        Section(
            "F1 per class",
            figure(_class_f1(oof), "F1 of each class with its 95 % interval, photos in brackets"),
            "Macro F1 is the mean of these bars, so a rare class counts as much as a frequent one.",
        ),
        Section(
            "Calibration",
            figure(reliability_diagram(*assess_calibration(oof)), "Reliability diagram"),
            "Points below the diagonal are overconfident predictions; ECE is the expected calibration error.",
        ),
        Section(
            "Performance by age and photo type",
            age_and_photo_section(oof, prepared),
            "Accuracy usually drops near the dotted borders, where one year changes the class.",
        ),
        Section(
            "Performance by group",
            group_section(oof, prepared, store, suspects, fits),
            "The list holds the groups with significantly lower accuracy than all other people, tested for all groups "
            "at once. The groups follow the labels of the data set, which may be wrong.",
        ),
        Section(
            "Most confident errors",
            confident_errors_section(oof, prepared, store),
            "The incorrect predictions with the highest probability (in brackets); check whether the label is wrong.",
        ),
        Section(
            "Grad-CAM",
            gradcam_section(run, oof, prepared, store),
            "Incorrect predictions, each followed by a correct one of the same class. The left image is the model's "
            "input; in the right image, the parts that the prediction does not depend on are dark.",
        ),
        Section(
            "Augmentation",
            augmentation_section(run.config, prepared, store, run.finished_folds[0]),
            "Check that every photo still shows its class.",
        ),
        Section(
            "Optimisation",
            figure(learning_curves(histories, OPTIMISATION), "Learning rate, gradient norm and throughput by epoch"),
            "A gradient norm that grows or jumps is a sign of a learning rate that is too high.",
        ),
        Section(
            "Data card", data_card(prepared, error_rates), "What the data contains, and what it must not be used for."
        ),
        Section(
            "Configuration",
            _configuration(run.config, summary),
            "All keys of the run; bold rows differ from the default.",
        ),
    ]
    write_text(path, with_record(page(f"Report: {run.name}", sections), inputs))
    return path


def _scores(summary: dict, expected: dict | None) -> str:
    """Scores as HTML. expected: the result of expect_from_cache."""
    whole, submission = summary["oof"], ""
    if expected is not None:
        sentences = f"{submission_sentence(expected)}. This is for a submission of this run without TTA."
        submission = f"<p>{escape(sentences)}</p>"
    rows = [[metric_name(name), f"{whole[name]:.4f}", ci_text(whole[f"{name}_ci95"])] for name in METRICS]
    leaderboard = ""
    if whole["board95"] is not None:
        leaderboard = "Expected leaderboard score of one fold model on a new test set of the size of the eval set: "
        leaderboard += f"board95 {ci_text(whole['board95'])}; on half of it {ci_text(whole['board_half95'])}. "
        if expected is None:
            leaderboard += "For a submission, which averages the fold models, submit.py estimates the score. "
    unfinished = (
        "" if summary["complete"] else " Not all folds are trained: the scores are those of the finished folds."
    )
    fold_rows = [
        [
            str(row["fold"]),
            f"{row['macro_f1']:.4f}",
            ci_text(row["macro_f1_ci95"]),
            f"{row['accuracy']:.4f}",
            str(row["best_epoch"]),
            f"{row['seconds']:,.0f}",
        ]
        for row in summary["folds"]
    ]
    fold_header = ["fold", "macro F1", "95 %", "accuracy", "best epoch", "seconds"]
    return (
        f"{submission}<p class='score'>macro F1 {whole['macro_f1']:.4f} {ci_text(whole['macro_f1_ci95'])}</p>"
        f"<p class='note'>{leaderboard}Weights: {escape(summary['selection'])}.{unfinished}</p>"
        f"<div class='row'>{table('All folds', ['metric', 'score', '95 %'], rows)}"
        f"{table('By fold', fold_header, fold_rows)}</div>"
    )


def _confusion(oof: OutOfFold) -> str:
    charts = {}
    for name, classes, rows in confusion_matrices(oof):
        counts = np.array([row[1:] for row in rows])
        title = "18 classes" if name == "classes" else name
        charts[name] = figure(confusion_matrix(counts, classes, title), f"Confusion matrix: {name}")
    return f"<div class='row'>{''.join(charts[axis] for axis in AXES)}</div>{charts['classes']}"


def _class_f1(oof: OutOfFold) -> Figure:
    bounds = class_intervals(oof.label, oof.pred_labels, oof.person_id)
    return class_f1_bars(class_table(oof.label, oof.pred_labels), bounds)


def _configuration(config: Config, summary: dict) -> str:
    values, defaults = (flatten(each.model_dump(mode="json")) for each in (config, Config()))
    changed = {key for key in values if values[key] != defaults[key] and key not in RESOLVED_KEYS}
    rows = "".join(
        f"<tr{' class=changed' if key in changed else ''}><th scope='row'><code>{escape(key)}</code></th>"
        f"<td><code>{escape(str(value))}</code></td><td><code>{escape(str(defaults[key]))}</code></td></tr>"
        for key, value in values.items()
    )
    provenance = {key: summary[key] for key in ("dataset", "config_hash", "git_commit", "threads") if key in summary}
    provenance |= summary.get("versions", {})
    versions = ", ".join(f"{escape(key)} {escape(str(value))}" for key, value in provenance.items())
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("key", "value", "default"))
    return f"<p class='note'>{versions}</p>{html_table('Configuration keys', head, rows)}"
