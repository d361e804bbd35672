"""The losses of a learning-rate range test: smoothing, divergence, and the learning rate that they suggest.

The test is that of Smith 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3. The rules for the end
of the test and for the suggestion are those of fastai and Lightning, but the losses are smoothed with a centred mean,
which does not lag behind.
"""

from dataclasses import dataclass

import numpy as np

from maskfold.errors import UserError

# The smoothed loss of an update is the mean loss of this update and of up to this number of updates on each side.
HALF_WINDOW = 5
WINDOW = 2 * HALF_WINDOW + 1
# The loss has diverged if its mean over the last WINDOW updates is more than this many times the lowest mean over any
# WINDOW consecutive updates.
DIVERGENCE_FACTOR = 4.0
# The learning rate with the lowest loss is already too high, so at most a tenth of it is suggested.
MIN_LOSS_FACTOR = 0.1


@dataclass(frozen=True)
class LrCurve:
    """The result of a range test. lrs, losses: float64 [N], one value per update whose loss is finite.

    diverged: whether the test ended because the loss diverged.
    """

    lrs: np.ndarray
    losses: np.ndarray
    diverged: bool

    @property
    def smoothed(self) -> np.ndarray:
        """float64 [N]: the centred mean of WINDOW losses; at the ends, the mean of those that exist."""
        sums = np.convolve(self.losses, np.ones(WINDOW))[HALF_WINDOW:-HALF_WINDOW]
        counts = np.convolve(np.ones_like(self.losses), np.ones(WINDOW))[HALF_WINDOW:-HALF_WINDOW]
        return sums / counts


def has_diverged(losses: list[float]) -> bool:
    """Whether the last loss is not finite, or the mean of the last WINDOW losses is too high."""
    if losses and not np.isfinite(losses[-1]):
        return True
    if len(losses) < WINDOW:
        return False
    means = np.convolve(losses, np.ones(WINDOW) / WINDOW, "valid")
    return bool(means[-1] > DIVERGENCE_FACTOR * means.min())


@dataclass(frozen=True)
class LrSuggestion:
    """Two learning rates of a range test: the smoothed loss is lowest at `lowest` and falls fastest at `steepest`."""

    lowest: float
    steepest: float

    @property
    def lr(self) -> float:
        """The smaller of `steepest` and a tenth of `lowest`: a low learning rate does less harm than a high one."""
        return min(self.steepest, MIN_LOSS_FACTOR * self.lowest)

    @property
    def rule(self) -> str:
        """How lr was chosen."""
        if self.lr == self.steepest:
            return "where the smoothed loss falls fastest"
        return "a tenth of the learning rate with the lowest smoothed loss"


def suggest_lr(curve: LrCurve) -> LrSuggestion:
    """Suggest a learning rate. Raises UserError if the smoothed loss never falls below its first value.

    `steepest` is where the slope of the smoothed loss against log(learning rate) is most negative, up to `lowest`.
    """
    smoothed = curve.smoothed if len(curve.losses) else np.zeros(1)
    lowest = int(smoothed.argmin())
    if lowest == 0:
        raise UserError(
            "--min-lr: the loss does not fall at this learning rate or a higher one; give a lower --min-lr, or more "
            "--updates"
        )
    slopes = np.gradient(smoothed, np.log(curve.lrs))
    return LrSuggestion(float(curve.lrs[lowest]), float(curve.lrs[slopes[: lowest + 1].argmin()]))
