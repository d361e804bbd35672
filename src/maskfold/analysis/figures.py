"""Figures of a run. Each function returns a matplotlib figure for its caller to save; none is kept open by pyplot."""

import numpy as np
from matplotlib.figure import Figure

from maskfold.analysis.calibration import BINS, Reliability

BLUE, ORANGE, GREY = "#2f5d8a", "#c8641c", "#9a9a9a"


def reliability_diagram(before: Reliability, after: Reliability, temperature: float) -> Figure:
    """Accuracy against confidence, as the model says it and tempered, over how many photos each bin has."""
    figure = Figure(figsize=(5.2, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    top.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="as it should be")
    edges = np.linspace(0, 1, BINS + 1)
    looks = ((before, ORANGE, "o-", "as it is"), (after, BLUE, "s--", f"temperature {temperature:.2f}, cross-fitted"))
    for found, colour, style, name in looks:
        top.plot(found.confidence, found.accuracy, style, color=colour, label=f"{name}: error {found.error:.3f}")
        bottom.stairs(found.photos, edges, color=colour, linestyle="-" if found is before else "--")
    top.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
    top.legend(loc="upper left", frameon=False)
    bottom.set(xlabel="confidence of the answer", ylabel="photos")
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
