"""Figures of a run. Each function returns a matplotlib figure for its caller to save; none is kept open by pyplot."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maskfold.labels import AGE_BORDERS
from maskfold.metrics.calibration import NUM_BINS, Reliability

BLUE, ORANGE, GREY = "#2f5d8a", "#c8641c", "#9a9a9a"
# A fold has a marker and a dash of its own: nothing is told by colour alone.
LOOKS = [(marker, dash) for dash in ("-", "--", ":", "-.") for marker in "osD^vXP*"]
# A confusion matrix of so many classes has its counts written smaller.
MANY = 6


def sheet(pixels: np.ndarray) -> Figure:
    """Photos alone: uint8 RGB [H, W, 3], at most 10 inches wide."""
    height, width = pixels.shape[:2]
    scale = min(10 / width, 1 / 100)
    figure = Figure(figsize=(width * scale, height * scale))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(pixels)
    axes.set_axis_off()
    return figure


def reliability_diagram(before: Reliability, after: Reliability | None, temperature: float) -> Figure:
    """Accuracy against confidence, as the model says it and (if it is there) tempered, over the bins' photos."""
    figure = Figure(figsize=(5.2, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    top.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="as it should be")
    edges = np.linspace(0, 1, NUM_BINS + 1)
    looks = [(before, ORANGE, "o-", "as it is")]
    if after is not None:
        looks.append((after, BLUE, "s--", f"temperature {temperature:.2f}, cross-fitted"))
    for found, colour, style, name in looks:
        top.plot(found.confidence, found.accuracy, style, color=colour, label=f"{name}: error {found.error:.3f}")
        bottom.stairs(found.photos, edges, color=colour, linestyle="-" if found is before else "--")
    top.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
    top.legend(loc="upper left", frameon=False)
    bottom.set(xlabel="confidence of the answer", ylabel="photos")
    for axes in (top, bottom):
        bare(axes)
    return figure


def curves(histories: Mapping[str, Sequence[dict]], keys: Mapping[str, str]) -> Figure:
    """A panel a key of metrics.jsonl ({key: its title}) that a part has, by epoch, with a line each."""
    keys = {key: title for key, title in keys.items() if any(key in row for rows in histories.values() for row in rows)}
    figure = Figure(figsize=(4.2 * len(keys), 3.2), layout="constrained")
    drawn: dict[str, Any] = {}
    for axes, (key, title) in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys.items(), strict=True):
        for at, (part, rows) in enumerate(histories.items()):
            marker, dash = LOOKS[at % len(LOOKS)]
            points = [(row["epoch"], row[key]) for row in rows if key in row]
            if points:
                [line] = axes.plot(
                    *zip(*points, strict=True), color=f"C{at}", marker=marker, linestyle=dash, markersize=4
                )
                drawn.setdefault(part, line)
        axes.set(title=title, xlabel="epoch", xticks=_whole(max(len(rows) for rows in histories.values())))
        bare(axes)
    # Of all parts: a refit has no line where there is nothing to validate.
    axes.legend(drawn.values(), drawn, frameon=False, fontsize=8)
    return figure


def confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """int [C, C], a row a true class: shares of the row as shade, counts as numbers."""
    many = len(names) > MANY
    figure = Figure(figsize=(9.6, 8.6) if many else (3.9, 3.6), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        shade = "white" if shares[row, column] > 0.55 else "black"
        axes.text(
            column, row, f"{counts[row, column]:,}", ha="center", va="center", color=shade, fontsize=7 if many else 9
        )
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=60 if many else 0, ha="right" if many else "center", fontsize=8)
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set(xlabel="answer", ylabel="true")
    return figure


def class_bars(rows: Sequence[dict], bounds: Sequence[Sequence[float]]) -> Figure:
    """F1 of each class with its interval, and how many photos it has; rows as of class_table."""
    figure = Figure(figsize=(9.6, 5.4), layout="constrained")
    axes = figure.subplots()
    values, at = np.array([row["f1"] for row in rows]), np.arange(len(rows))
    ends = np.abs(np.array(bounds).T - values)
    axes.barh(at, values, xerr=ends, color=BLUE, alpha=0.75, error_kw={"elinewidth": 1, "capsize": 2})
    axes.set_yticks(at, [f"{row['name']}  ({row['support']:,})" for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="F1, 95 % over people", xlim=(0, 1))
    bare(axes)
    return figure


def group_intervals(groups: pd.DataFrame) -> Figure:
    """Accuracy of each group with its interval; rows as of fairness.by_group."""
    figure = Figure(figsize=(9.6, 0.32 * len(groups) + 0.9), layout="constrained")
    axes = figure.subplots()
    values, at = groups.accuracy.to_numpy(), np.arange(len(groups))
    ends = np.abs(np.array(groups.accuracy_ci95.tolist()).T - values)
    axes.errorbar(values, at, xerr=ends, fmt="o", color=BLUE, capsize=3)
    axes.set_yticks(at, [f"{name}  ({row.people:,} people)" for name, row in groups.iterrows()], fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", color="#eeeeee")
    axes.set(xlabel="accuracy, 95 % over people", xlim=(0, 1.02))
    bare(axes)
    return figure


def class_dots(tables: Mapping[str, Sequence[dict]]) -> Figure:
    """F1 of each class by run ({its letter: rows as of class_table}); the letter is the mark."""
    figure = Figure(figsize=(9.6, 6), layout="constrained")
    axes = figure.subplots()
    for at, (name, rows) in enumerate(tables.items()):
        values = [row["f1"] for row in rows]
        look: dict[str, Any] = {"marker": f"${name}$", "linestyle": "", "markersize": 7}
        axes.plot(values, range(len(rows)), **look, color=f"C{at}", clip_on=False, zorder=3)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="y", color="#eeeeee")
    axes.set(xlabel="F1; a letter is a run", xlim=(0, 1))
    bare(axes)
    return figure


def by_age(ages: np.ndarray, right: np.ndarray, age_right: np.ndarray) -> Figure:
    """Accuracy of the class and of the age group by age in years, over how many photos there are.

    ages: int [N]; right, age_right: bool [N]. The age groups' borders are drawn.
    """
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    years, at = np.unique(ages, return_inverse=True)
    photos = np.bincount(at)
    for values, style, name in ((right, "o-", "all of it right"), (age_right, "s--", "age group right")):
        top.plot(years, np.bincount(at, weights=values) / photos, style, markersize=4, label=name)
    bottom.bar(years, photos, color=GREY)
    for axes in (top, bottom):
        for border in AGE_BORDERS:
            axes.axvline(border - 0.5, color=ORANGE, linestyle=":")
        bare(axes)
    top.set(ylabel="accuracy", ylim=(0, 1.02))
    top.legend(frameon=False, fontsize=8)
    bottom.set(xlabel="age in years; dotted: the groups' borders", ylabel="photos")
    return figure


def _whole(epochs: int) -> list[int]:
    """At most ten ticks at whole epochs."""
    return list(range(1, epochs + 1, -(-epochs // 10)))


def bare(axes: Axes) -> None:
    """Without the frame's upper and right line."""
    axes.spines[["top", "right"]].set_visible(False)
