"""Figures of a run, as matplotlib figures for the caller to save. They do not use pyplot's global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maskfold.labels import AGE_BORDERS
from maskfold.metrics.calibration import NUM_BINS, Reliability

BLUE, ORANGE, GREY = "#2f5d8a", "#c8641c", "#9a9a9a"
# Each line has its own combination of marker and dash, so that lines can be distinguished without colour.
LINE_STYLES = [(marker, dash) for dash in ("-", "--", ":", "-.") for marker in "osD^vXP*"]
# The learning curves that every run has: key of metrics.jsonl -> title of its panel.
CURVES = {"train_loss": "training loss", "val_loss": "validation log loss", "macro_f1": "validation macro F1"}
# A confusion matrix of more classes than this is larger and has smaller text.
MAX_SMALL_MATRIX = 6


def image_figure(pixels: np.ndarray) -> Figure:
    """Show an image, uint8 RGB [H, W, 3], without axes and at most 10 inches wide."""
    height, width = pixels.shape[:2]
    scale = min(10 / width, 1 / 100)
    figure = Figure(figsize=(width * scale, height * scale))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(pixels)
    axes.set_axis_off()
    return figure


def reliability_diagram(before: Reliability, after: Reliability | None, temperature: float) -> Figure:
    """Plot accuracy by confidence, before and after temperature scaling; a lower panel shows the number of photos.

    after: if None, only `before` is plotted.
    """
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    top.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect calibration")
    edges = np.linspace(0, 1, NUM_BINS + 1)
    lines = [(before, ORANGE, "o-", "uncalibrated")]
    if after is not None:
        lines.append((after, BLUE, "s--", f"temperature {temperature:.2f}, cross-fitted"))
    for bins, colour, style, name in lines:
        top.plot(bins.confidence, bins.accuracy, style, color=colour, label=f"{name}: ECE {bins.error:.3f}")
        bottom.stairs(bins.num_photos, edges, color=colour, linestyle="-" if bins is before else "--")
    top.set(title="Reliability diagram", ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
    top.legend(loc="upper left", frameon=False, fontsize=9)
    bottom.set(xlabel="confidence (probability of the predicted class)", ylabel="photos")
    for axes in (top, bottom):
        hide_upper_right_spines(axes)
    return figure


def learning_curves(histories: Mapping[str, Sequence[dict]], keys: Mapping[str, str]) -> Figure:
    """Plot one panel for each of the keys that any history has, with one line per history over the epochs.

    histories: name -> rows of metrics.jsonl; keys: key of metrics.jsonl -> title of its panel.
    """
    keys = {key: title for key, title in keys.items() if any(key in row for rows in histories.values() for row in rows)}
    figure = Figure(figsize=(3.9 * len(keys) + 0.9, 3.2), layout="constrained")
    ticks = _epoch_ticks(max(len(rows) for rows in histories.values()))
    lines: dict[str, Any] = {}
    for axes, (key, title) in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys.items(), strict=True):
        for index, (name, rows) in enumerate(histories.items()):
            marker, dash = LINE_STYLES[index % len(LINE_STYLES)]
            points = [(row["epoch"], row[key]) for row in rows if key in row]
            if points:
                [line] = axes.plot(
                    *zip(*points, strict=True), color=f"C{index}", marker=marker, linestyle=dash, markersize=4
                )
                lines.setdefault(name, line)
        axes.set(title=title, xlabel="epoch", xticks=ticks)
        hide_upper_right_spines(axes)
    # One legend contains all names, because a refit on all data has no line in the validation panels.
    axes.legend(lines.values(), lines, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def confusion_matrix(counts: np.ndarray, names: Sequence[str], title: str = "") -> Figure:
    """Plot counts, int [C, C], one row per true class. Numbers are counts; the shade shows the share of the row."""
    is_large = len(names) > MAX_SMALL_MATRIX
    figure = Figure(figsize=(9.6, 8.6) if is_large else (3.9, 3.6), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(
            column,
            row,
            f"{counts[row, column]:,}",
            ha="center",
            va="center",
            color=colour,
            fontsize=7 if is_large else 9,
        )
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=60 if is_large else 0, ha="right" if is_large else "center", fontsize=8)
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set(title=title, xlabel="predicted class", ylabel="true class")
    return figure


def class_f1_bars(rows: Sequence[dict], bounds: Sequence[Sequence[float]]) -> Figure:
    """F1 per class with its interval and number of photos. rows: from class_table; bounds: [low, high] per class."""
    figure = Figure(figsize=(9.6, 5.4), layout="constrained")
    axes = figure.subplots()
    values, positions = np.array([row["f1"] for row in rows]), np.arange(len(rows))
    errors = np.abs(np.array(bounds).T - values)
    axes.barh(positions, values, xerr=errors, color=BLUE, alpha=0.75, error_kw={"elinewidth": 1, "capsize": 2})
    axes.set_yticks(positions, [f"{row['name']}  ({row['support']:,})" for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set(title="F1 per class (number of photos)", xlabel="F1 with 95 % interval", xlim=(0, 1))
    hide_upper_right_spines(axes)
    return figure


def group_intervals(groups: pd.DataFrame) -> Figure:
    """Accuracy per group with its interval; groups: a table from group_scores.scores_by_group."""
    figure = Figure(figsize=(9.6, 0.32 * len(groups) + 1.2), layout="constrained")
    axes = figure.subplots()
    values, positions = groups.accuracy.to_numpy(), np.arange(len(groups))
    errors = np.abs(np.array(groups.accuracy_ci95.tolist()).T - values)
    axes.errorbar(values, positions, xerr=errors, fmt="o", color=BLUE, capsize=3)
    axes.set_yticks(positions, [f"{name}  ({row.people:,} people)" for name, row in groups.iterrows()], fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", color="#eeeeee")
    axes.set(title="Accuracy by group", xlabel="accuracy with 95 % interval", xlim=(0, 1.02))
    hide_upper_right_spines(axes)
    return figure


def class_f1_dots(tables: Mapping[str, Sequence[dict]]) -> Figure:
    """F1 per class of several runs. tables: letter that marks a run -> rows of class_table."""
    figure = Figure(figsize=(9.6, 6), layout="constrained")
    axes = figure.subplots()
    # Each run has a vertical offset, so that letters of equal scores do not overlap.
    offsets = np.linspace(-0.2, 0.2, len(tables)) if len(tables) > 1 else [0.0]
    for index, (letter, rows) in enumerate(tables.items()):
        values = [row["f1"] for row in rows]
        style: dict[str, Any] = {"marker": f"${letter}$", "linestyle": "", "markersize": 7}
        axes.plot(values, np.arange(len(rows)) + offsets[index], **style, color=f"C{index}", clip_on=False, zorder=3)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="y", color="#eeeeee")
    axes.set(title="F1 per class", xlabel="F1 (one letter per run)", xlim=(0, 1))
    hide_upper_right_spines(axes)
    return figure


def accuracy_by_age(ages: np.ndarray, is_correct: np.ndarray, is_age_correct: np.ndarray) -> Figure:
    """Accuracy of the class and of the age group by age in years; a lower panel shows the number of photos.

    ages: int [N]; is_correct, is_age_correct: bool [N]. Dotted lines mark the borders of the age groups.
    """
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    years, index = np.unique(ages, return_inverse=True)
    num_photos = np.bincount(index)
    for values, style, name in ((is_correct, "o-", "class correct"), (is_age_correct, "s--", "age group correct")):
        top.plot(years, np.bincount(index, weights=values) / num_photos, style, markersize=4, label=name)
    bottom.bar(years, num_photos, color=GREY)
    for axes in (top, bottom):
        for border in AGE_BORDERS:
            axes.axvline(border - 0.5, color=ORANGE, linestyle=":")
        hide_upper_right_spines(axes)
    top.set(title="Accuracy by age", ylabel="accuracy", ylim=(0, 1.02))
    top.legend(frameon=False, fontsize=8)
    bottom.set(xlabel="age in years (dotted: borders of the age groups)", ylabel="photos")
    return figure


def _epoch_ticks(epochs: int) -> list[int]:
    """Return at most ten ticks, each at a whole epoch."""
    return list(range(1, epochs + 1, -(-epochs // 10)))


def hide_upper_right_spines(axes: Axes) -> None:
    """Remove the upper and the right line of the frame."""
    axes.spines[["top", "right"]].set_visible(False)
