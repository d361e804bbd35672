"""Whether a probability means what it says, and the one number that mends most of it.

A temperature T turns probabilities p into p^(1/T), normalised: what dividing the logits by T does (Guo et al. 2017, On
Calibration of Modern Neural Networks). It changes no answer of a model, only how much it counts beside others.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from maskfold.probabilities import OutOfFold
from maskfold.progress import report

# Temperatures beyond are no calibration any more; the search is over their logarithm.
LARGEST = 20.0
BINS = 15
LEAST_PROBABILITY = 1e-12


def tempered(probs: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities float [N, C] at another temperature, float64 [N, C]."""
    logs = np.log(np.maximum(probs.astype(np.float64), LEAST_PROBABILITY)) / temperature
    powers = np.exp(logs - logs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_temperature(probs: np.ndarray, labels: np.ndarray) -> float:
    """The temperature from 1/20 to 20 with the least log loss; probs float [N, C], labels int [N].

    The loss is convex in 1/T: there is one optimum, or it lies on a bound, as for labels that are all predicted
    correctly. Temperature 1, which leaves probabilities as they are, is returned where they are uniform, so that all
    temperatures are equal, and, with a warning, where the search does not converge. Raises ValueError without photos.
    """
    if not len(labels):
        raise ValueError("a temperature can't be fitted without photos")
    bound = np.log(LARGEST)
    logs = np.log(np.maximum(probs.astype(np.float64), LEAST_PROBABILITY))
    # The true class at 0: the loss is the logarithm of the sum of the rest relative to it.
    logs -= logs[np.arange(len(labels)), labels][:, None]

    def loss(log_temperature: float) -> float:
        scaled = logs * np.exp(-log_temperature)
        most = scaled.max(1)
        return float((most + np.log(np.exp(scaled - most[:, None]).sum(1))).mean())

    if not logs.any():
        return 1.0
    result = minimize_scalar(loss, bounds=(-bound, bound), method="bounded")
    if not result.success:
        report(f"warning: no temperature was found ({result.message.strip()}); the probabilities stay as they are")
        return 1.0
    return float(np.exp(result.x))


def cross_fitted(oof: OutOfFold) -> tuple[np.ndarray, dict[int, float]]:
    """(probabilities float64 [N, C], temperature a fold): each fold tempered by what the others' photos gave.

    A single fold has no others: it stays as it is, at temperature 1.
    """
    folds = np.unique(oof.fold)
    probs, temperatures = oof.probs.astype(np.float64), {}
    for fold in folds:
        mine = oof.fold == fold
        temperatures[int(fold)] = fit_temperature(oof.probs[~mine], oof.label[~mine]) if len(folds) > 1 else 1.0
        probs[mine] = tempered(oof.probs[mine], temperatures[int(fold)])
    return probs, temperatures


@dataclass(frozen=True)
class Reliability:
    """By bin of confidence: photos, mean confidence and accuracy (both nan where there are none), [BINS] each."""

    photos: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error, 0..1: the bins' gaps weighted by their photos (Naeini et al. 2015)."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float(np.nansum(self.photos * gaps) / self.photos.sum())


def reliability(probs: np.ndarray, labels: np.ndarray) -> Reliability:
    """Of the top answers: probs float [N, C], labels int [N]; bins of equal width from 0 to 1."""
    confidence, right = probs.max(1), probs.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    photos = np.bincount(bins, minlength=BINS).astype(float)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights=values, minlength=BINS) / photos for values in (confidence, right)]
    return Reliability(photos, *means)


def before_and_after(oof: OutOfFold) -> tuple[Reliability, Reliability | None, float]:
    """As it is, with cross-fitted temperatures (None for a single fold), and the temperature of all photos."""
    before, temperature = reliability(oof.probs, oof.label), fit_temperature(oof.probs, oof.label)
    if len(np.unique(oof.fold)) == 1:
        return before, None, temperature
    return before, reliability(cross_fitted(oof)[0], oof.label), temperature


def log_loss(probs: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative logarithm of the true class' probability."""
    return float(-np.log(np.maximum(probs[np.arange(len(labels)), labels], LEAST_PROBABILITY)).mean())
