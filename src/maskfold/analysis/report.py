"""A run's report: one HTML page that a team reads first, with nothing to load from anywhere."""

from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from maskfold.analysis.bootstrap import class_intervals, intervals
from maskfold.analysis.calibration import cross_fitted, fit_temperature, reliability
from maskfold.analysis.figures import by_age, class_bars, confusion_matrix, curves, reliability_diagram
from maskfold.analysis.metrics import METRICS, class_table, scores
from maskfold.analysis.mistakes import confusions, worst_mistakes
from maskfold.analysis.page import figure, page, photo, section, table
from maskfold.analysis.tables import interval
from maskfold.config import Config, flatten
from maskfold.data.prepared import Prepared
from maskfold.data.store import Store, open_store
from maskfold.data.transforms import sample_seeds, train_transform
from maskfold.files import write_text
from maskfold.inference.predict import prepared_of
from maskfold.labels import AXES, decode
from maskfold.predictions import Predictions, load_predictions
from maskfold.training.runs import RunFolder
from maskfold.training.summary import summarise

FILE = "report.html"
# Photos whose augmentations are shown, and how many of each.
SAMPLES, VARIANTS = 6, 5
LOSSES = {"train_loss": "training loss", "val_loss": "validation log loss", "macro_f1": "validation macro F1"}
WORK = {"lr": "learning rate", "grad_norm": "norm of the gradient", "images_per_second": "images/s"}


def write_report(run: RunFolder) -> Path:
    """Write report.html into the run's folder. Raises UserError where the run has nothing finished to report."""
    summary, prepared = summarise(run), prepared_of(run)
    oof = load_predictions(run.folder / "oof.npz", out_of_fold=True)
    store = open_store(prepared, prepared.images, run.config.data)
    histories = {part: run.read_metrics(part) for part in run.finished_parts}
    sections = [
        _head(summary),
        section("Training", figure(curves(histories, LOSSES), "Losses and macro F1 by epoch, a line a fold")),
        section("What is taken for what", _confusion(oof)),
        section("The 18 classes", figure(_bars(oof), "F1 of each class with its 95 % interval, photos in brackets")),
        section("Do the probabilities mean what they say?", _calibration(oof)),
        section("Whom it serves", _people(oof, prepared)),
        section("The surest mistakes", _gallery(oof, prepared, store)),
        section("What the model saw", _augmented(run.config, store)),
        section("The work", figure(curves(histories, WORK), "Learning rate, gradient norm and throughput by epoch")),
        section("Configuration", _configuration(run.config, summary)),
    ]
    path = run.folder / FILE
    write_text(path, page(run.name, sections))
    return path


def _head(summary: dict) -> str:
    whole = summary["oof"]
    rows = [[name.replace("_", " "), f"{whole[name]:.4f}", interval(whole[f"{name}_ci95"])] for name in METRICS]
    board = f"board95 {interval(whole['board95'])}, half {interval(whole['board_half95'])}"
    unfinished = "" if summary["complete"] else " Not all folds are trained: these scores are of the finished ones."
    return (
        f"<h1>{escape(summary['name'])}</h1><p class='score'>macro F1 {whole['macro_f1']:.4f} "
        f"{interval(whole['macro_f1_ci95'])}</p><p class='note'>Out-of-fold, with 95 % intervals over people. A new "
        f"set like the eval side, by one fold's model: {board}. Weights: {escape(summary['selection'])}."
        f"{unfinished}</p>"
        f"{table(['metric', 'score', '95 %'], rows)}"
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
    )


def _confusion(oof: Predictions) -> str:
    found = {name: (names, np.array([row[1:] for row in rows])) for name, names, rows in confusions(oof)}
    drawn = {
        name: figure(confusion_matrix(counts, names), f"Confusion matrix: {name}")
        for name, (names, counts) in found.items()
    }
    return f"<div class='row'>{''.join(drawn[axis] for axis in AXES)}</div>{drawn['classes']}"


def _bars(oof: Predictions) -> Figure:
    return class_bars(class_table(oof.label, oof.answers), class_intervals(oof.label, oof.answers, oof.person_id))


def _calibration(oof: Predictions) -> str:
    probs, _ = cross_fitted(oof)
    before, after = reliability(oof.probs, oof.label), reliability(probs, oof.label)
    return figure(reliability_diagram(before, after, fit_temperature(oof.probs, oof.label)), "Reliability diagram")


def _people(oof: Predictions, prepared: Prepared) -> str:
    ages = prepared.images.set_index("image_id").age.loc[oof.image_id].to_numpy()
    true, said = decode(oof.label), decode(oof.answers)
    drawn = by_age(ages, oof.answers == oof.label, true[list(AXES).index("age")] == said[list(AXES).index("age")])
    rows = []
    for (axis, names), values in zip(AXES.items(), true, strict=True):
        for at, name in enumerate(names):
            mine = values == at
            if mine.any():
                found = scores(oof.label[mine], oof.answers[mine])
                bounds = intervals(oof.label[mine], oof.answers[mine], oof.person_id[mine], 0)["accuracy_ci95"]
                people = len(set(oof.person_id[mine]))
                accuracies = [f"{found[f'{other}_accuracy']:.4f}" for other in AXES]
                rows.append(
                    [f"{axis}: {name}", f"{people:,}", f"{found['accuracy']:.4f}", interval(bounds), *accuracies]
                )
    head = ["group", "people", "accuracy", "95 %", *(f"{axis} right" for axis in AXES)]
    return figure(drawn, "Accuracy by age in years") + table(head, rows)


def _gallery(oof: Predictions, prepared: Prepared, store: Store) -> str:
    row_of = {name: row for row, name in enumerate(prepared.images.image_id)}
    shown = [
        f"<figure>{photo(store[row_of[name]], name)}<figcaption><code>{escape(name)}</code><br>is {escape(true)}<br>"
        f"taken for {escape(said)} ({p:.2f})</figcaption></figure>"
        for _, name, true, said, p in worst_mistakes(oof)
    ]
    return f"<div class='row'>{''.join(shown)}</div>" if shown else "<p>There are none.</p>"


def _augmented(config: Config, store: Store) -> str:
    """The first epoch's augmentations of some photos, and of epochs after it."""
    rows, transform = np.linspace(0, len(store) - 1, SAMPLES).astype(int), train_transform(config.data)
    seen = []
    for row in rows:
        for epoch in range(1, VARIANTS + 1):
            [seed] = sample_seeds(config.seed, epoch, np.array([row]), np.zeros(1, int))
            seen.append(transform(store[row], seed))
    lines = [np.concatenate(seen[at * VARIANTS : (at + 1) * VARIANTS], 1) for at in range(SAMPLES)]
    half = SAMPLES // 2
    sheet = np.concatenate([np.concatenate(lines[:half], 0), np.concatenate(lines[half:], 0)], 1)
    how = config.data.augment if isinstance(config.data.augment, str) else "its own pipeline"
    note = f"Training photos as the first {VARIANTS} epochs augment them ({how}), at the size the model sees."
    return f"<p class='note'>{escape(note)}</p>{photo(sheet, 'augmented photos')}"


def _configuration(config: Config, summary: dict) -> str:
    own, defaults = (flatten(each.model_dump(mode="json")) for each in (config, Config()))
    rows = "".join(
        f"<tr{' class=changed' if value != defaults[key] else ''}><td><code>{escape(key)}</code></td>"
        f"<td><code>{escape(str(value))}</code></td><td>{'changed' if value != defaults[key] else ''}</td></tr>"
        for key, value in own.items()
    )
    known = {key: summary[key] for key in ("dataset", "config_hash", "git_commit")} | summary["versions"]
    versions = ", ".join(f"{escape(key)} {escape(str(value))}" for key, value in known.items())
    return f"<p class='note'>{versions}</p><table><tr><th>key</th><th>value</th><th>default</th></tr>{rows}</table>"
