"""Calibration: how well probabilities match observed frequencies, and temperature scaling, which improves the match.

Scaling with a temperature T turns probabilities p into p^(1/T) and normalises them, which is the same as dividing the
logits by T (Guo et al. 2017, On Calibration of Modern Neural Networks). It changes only the confidence, not the
predicted labels.
"""

from dataclasses import dataclass

import numpy as np

from maskfold.probabilities import OutOfFold
from maskfold.progress import report

# Temperatures are limited to 1/20..20, because more extreme ones do not calibrate. The search is over their logarithm.
MAX_TEMPERATURE = 20.0
NUM_BINS = 15
MIN_PROB = 1e-12


def apply_temperature(probs: np.ndarray, temperature: float) -> np.ndarray:
    """Scale probabilities float [N, C] with a temperature. Returns float64 [N, C]."""
    logs = np.log(np.maximum(probs.astype(np.float64), MIN_PROB)) / temperature
    powers = np.exp(logs - logs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_temperature(probs: np.ndarray, labels: np.ndarray) -> float:
    """The temperature between 1/20 and 20 with the lowest log loss; probs float [N, C], labels int [N].

    The loss is convex in 1/T, so there is a single optimum. The optimum is at a bound if, for example, all labels are
    predicted correctly. Returns 1, which changes nothing, if all probabilities are uniform, because all temperatures
    then give the same loss. Also returns 1, with a warning, if the search does not converge. Raises ValueError if there
    are no photos.
    """
    if not len(labels):
        raise ValueError("a temperature can't be fitted without photos")
    bound = np.log(MAX_TEMPERATURE)
    logs = np.log(np.maximum(probs.astype(np.float64), MIN_PROB))
    # Shift each row so that the value of its true class is 0. Its loss is then the logarithm of a sum of exponentials.
    logs -= logs[np.arange(len(labels)), labels][:, None]

    def loss(log_temperature: float) -> float:
        scaled = logs * np.exp(-log_temperature)
        largest = scaled.max(1)
        return float((largest + np.log(np.exp(scaled - largest[:, None]).sum(1))).mean())

    if not logs.any():
        return 1.0
    # Imported here, because training imports this module only for log_loss, which does not need scipy.
    from scipy.optimize import minimize_scalar

    result = minimize_scalar(loss, bounds=(-bound, bound), method="bounded")
    if not result.success:
        report(
            f"warning: the search for a temperature did not converge ({result.message.strip()}); the probabilities "
            "stay uncalibrated"
        )
        return 1.0
    return float(np.exp(result.x))


def cross_fit_temperatures(oof: OutOfFold) -> tuple[np.ndarray, dict[int, float]]:
    """Scale the probabilities of each fold with a temperature that is fitted on the other folds.

    Returns (probabilities float64 [N, C], temperature by fold). If there is only one fold, its temperature is 1.
    """
    folds = np.unique(oof.fold)
    probs, temperatures = oof.probs.astype(np.float64), {}
    for fold in folds:
        in_fold = oof.fold == fold
        temperatures[int(fold)] = fit_temperature(oof.probs[~in_fold], oof.label[~in_fold]) if len(folds) > 1 else 1.0
        probs[in_fold] = apply_temperature(oof.probs[in_fold], temperatures[int(fold)])
    return probs, temperatures


@dataclass(frozen=True)
class Reliability:
    """Number of photos, mean confidence and accuracy of each confidence bin, float [NUM_BINS] each.

    Mean confidence and accuracy are NaN for an empty bin.
    """

    num_photos: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error, 0..1 (Naeini et al. 2015).

        It is the mean of |confidence - accuracy| over the bins, weighted by their numbers of photos.
        """
        gaps = np.abs(self.confidence - self.accuracy)
        return float(np.nansum(self.num_photos * gaps) / self.num_photos.sum())


def reliability(probs: np.ndarray, labels: np.ndarray) -> Reliability:
    """Reliability of the predicted labels in confidence bins of equal width; probs float [N, C], labels int [N]."""
    confidence, correct = probs.max(1), probs.argmax(1) == labels
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    num_photos = np.bincount(bins, minlength=NUM_BINS).astype(float)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights=values, minlength=NUM_BINS) / num_photos for values in (confidence, correct)]
    return Reliability(num_photos, *means)


def assess_calibration(oof: OutOfFold) -> tuple[Reliability, Reliability | None, float]:
    """Return (reliability before calibration, reliability after calibration, temperature fitted on all photos).

    The reliability after calibration uses cross-fitted temperatures; it is None for a single fold.
    """
    before, temperature = reliability(oof.probs, oof.label), fit_temperature(oof.probs, oof.label)
    if len(np.unique(oof.fold)) == 1:
        return before, None, temperature
    return before, reliability(cross_fit_temperatures(oof)[0], oof.label), temperature


def log_loss(probs: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative logarithm of the probability of the true class."""
    return float(-np.log(np.maximum(probs[np.arange(len(labels)), labels], MIN_PROB)).mean())
