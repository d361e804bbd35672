"""The posterior (class probabilities) of photos without labels, from models that were trained on different people.

Where the models disagree, the true class is uncertain. Their log-probabilities are averaged and divided by a
temperature; the result is the logarithm of the posterior, up to normalisation. The temperature is chosen so that a
single model is as accurate under this posterior as it was on people whose labels are known (Jiang et al. 2022,
Assessing generalization of SGD via disagreement). Kirsch & Gal 2022 (A note on "Assessing generalization of SGD via
disagreement") describe the calibration that this choice needs. The posterior has exactly this form if the errors of the
models' log-probabilities are normally distributed around an error that all models share.

Log-probabilities also contain the class frequencies that a model has learnt, and the temperature must not change these.
The logarithm of the learnt frequencies is therefore subtracted before the division by the temperature, and the
logarithm of the class frequencies of the labelled photos is added after it (Saerens, Latinne & Decaestecker 2002,
Adjusting the outputs of a classifier to new a priori probabilities).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax

from maskfold.labels import NUM_CLASSES
from maskfold.metrics.calibration import MAX_TEMPERATURE, MIN_PROB

# The temperatures to try. Results between them are interpolated.
TEMPERATURES = np.exp(np.linspace(-np.log(MAX_TEMPERATURE), np.log(MAX_TEMPERATURE), 49))
# Added to the number of photos of each class (one photo in total), so that the logarithm of a share is always finite.
SHARE_PRIOR = 1 / NUM_CLASSES
MAX_SHARE_ERROR = 1e-6
# Weight of the squared offsets in the objective. This term makes the minimum unique.
OFFSET_RIDGE = 1e-9


def log_probs_of(probs: np.ndarray) -> np.ndarray:
    """Probabilities float [..., 18] -> their logarithms, float64, at least log(MIN_PROB)."""
    return np.log(np.maximum(np.asarray(probs, np.float64), MIN_PROB))


def class_shares(labels: np.ndarray) -> np.ndarray:
    """The share of each class among the labels, float [18], above 0; labels: int [N], 0..17."""
    counts = np.bincount(labels, minlength=NUM_CLASSES) + SHARE_PRIOR
    return counts / counts.sum()


def share_offsets(logits: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Offsets float [18], mean 0, for which the mean of softmax(logits + offsets) over the photos is `shares`.

    logits: float [N, 18]; shares: float [18], above 0, sum 1. The offsets minimise a convex function, which differs
    only by a constant from the mean log loss of any labels whose class shares are `shares`. The offsets are unique up
    to an added constant, so their mean is set to 0.
    """

    def objective(offsets: np.ndarray) -> float:
        return (
            float(logsumexp(logits + offsets, axis=1).mean() - shares @ offsets) + OFFSET_RIDGE / 2 * offsets @ offsets
        )

    def gradient(offsets: np.ndarray) -> np.ndarray:
        return softmax(logits + offsets, axis=1).mean(0) - shares + OFFSET_RIDGE * offsets

    def hessian(offsets: np.ndarray) -> np.ndarray:
        probs = softmax(logits + offsets, axis=1)
        return np.diag(probs.mean(0) + OFFSET_RIDGE) - probs.T @ probs / len(probs)

    start = np.zeros(NUM_CLASSES)
    offsets = minimize(
        objective, start, method="trust-exact", jac=gradient, hess=hessian, options={"gtol": MAX_SHARE_ERROR}
    ).x
    return offsets - offsets.mean()


def learnt_log_prior(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logarithm of the class frequencies that models have learnt, float [18], up to a constant.

    log_probs: float [N, 18], of models that were not trained on the people in these photos; labels: int [N]. The result
    is subtracted from log_probs, see PosteriorFamily. At the temperature with the lowest log loss, the mean of the
    posterior then equals the class shares of the labels.
    """
    shares, rows = class_shares(labels), np.arange(len(labels))

    def offsets(log_temperature: float) -> np.ndarray:
        return share_offsets(log_probs * np.exp(-log_temperature), shares)

    def loss(log_temperature: float) -> float:
        logits = log_probs * np.exp(-log_temperature) + offsets(log_temperature)
        return -log_softmax(logits, axis=1)[rows, labels].mean()

    bound = np.log(MAX_TEMPERATURE)
    best = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 0.01}).x
    return np.exp(best) * (np.log(shares) - offsets(best))


@dataclass(frozen=True)
class PosteriorFamily:
    """The posterior of E photos without labels, as a function of the temperature.

    log_likelihoods: float [E, 18], the mean of the models' log-probabilities minus the result of learnt_log_prior;
    log_shares: float [18], logarithm of the share of each class among the labelled photos.
    """

    log_likelihoods: np.ndarray
    log_shares: np.ndarray

    def at(self, temperature: float) -> np.ndarray:
        """Class probabilities at a temperature, float [E, 18]."""
        return softmax(self.log_likelihoods / temperature + self.log_shares, axis=1)


def expected_accuracy(posterior: np.ndarray, pred_labels: np.ndarray) -> float:
    """The expected share of correct predictions; posterior: float [E, 18]; pred_labels: int [E]."""
    return float(expected_of(posterior, pred_labels).mean())


def expected_macro_f1(posterior: np.ndarray, pred_labels: np.ndarray) -> float:
    """Macro F1 computed from the expected counts under the posterior; for large sets, this is the expected macro F1.

    posterior: float [E, 18]; pred_labels: int [E]. The labels of a person's photos depend on each other, but this does
    not change the expected counts, because they are sums over photos.
    """
    hits = np.bincount(pred_labels, expected_of(posterior, pred_labels), minlength=NUM_CLASSES)
    counts = np.bincount(pred_labels, minlength=NUM_CLASSES) + posterior.sum(0)
    return float((2 * hits / np.maximum(counts, MIN_PROB)).mean())


def expected_of(posterior: np.ndarray, pred_labels: np.ndarray) -> np.ndarray:
    """The probability that each prediction is correct, float [E]."""
    return posterior[np.arange(len(pred_labels)), pred_labels]
