"""The figure of a learning-rate range test."""

from matplotlib.figure import Figure

from maskfold.pages.figures import BLUE, GREY, ORANGE, hide_upper_right_spines
from maskfold.search.lr_suggestion import LrCurve, LrSuggestion

# The y axis covers the range through which the smoothed loss falls, extended at both ends by this share of the range. A
# diverging loss is cut off, because otherwise nothing else would be visible.
MARGIN = 0.5


def lr_figure(curve: LrCurve, suggestion: LrSuggestion, title: str) -> Figure:
    """Plot the losses and the smoothed loss against the learning rate, and mark the suggested learning rate."""
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    smoothed = curve.smoothed
    axes.plot(curve.lrs, curve.losses, ".", color=GREY, label="loss of a batch")
    axes.plot(curve.lrs, smoothed, color=BLUE, label="smoothed loss")
    axes.axvline(suggestion.lr, color=ORANGE, linestyle="--", label=f"suggestion: {suggestion.lr:.2g}")
    low, high = smoothed.min(), smoothed[: smoothed.argmin() + 1].max()
    margin = MARGIN * (high - low)
    axes.set(title=title, xlabel="optim.lr", ylabel="training loss", xscale="log", ylim=(low - margin, high + margin))
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    hide_upper_right_spines(axes)
    return figure
