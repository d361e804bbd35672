"""The score to expect of a submission, and an interval for it, without further training.

The out-of-fold score is that of one fold's models; a submission averages the models of all folds. What this gains is
estimated on the eval photos, where all models predict every photo: macro F1 of the submission minus the mean of single
folds' models, both under the posterior of metrics/eval_posterior.py. The estimate is the out-of-fold score plus this
gain. The interval has the spread of an out-of-fold score on a new set of people (training people are resampled, then
as many people as the eval set has), with the standard error of the gain added in quadrature.

Assumptions: the eval people come from the population of the training people (the shift warning tests this; the
estimate fails without it); the folds' models are equally good; the mean of their log-probabilities contains what they
know about the truth; a model for all people (--refit) is about as good as the folds' models.
"""

from dataclasses import dataclass

import numpy as np

from maskfold.metrics.bootstrap import DEFAULT_RESAMPLING, Z_TWO_SIDED, People, Resampling, new_set_scores
from maskfold.metrics.eval_posterior import (
    TEMPERATURES,
    PosteriorFamily,
    class_shares,
    expected_accuracy,
    expected_macro_f1,
    learnt_log_prior,
    log_probs_of,
)
from maskfold.metrics.scores import macro_f1

# Share of the gain that is taken as the standard error of its model; the sample of people adds its own error. Measured:
# see EXPERIMENTS.md, "Expected score of a submission".
MODEL_ERROR = 0.1


@dataclass(frozen=True)
class LabelledPredictions:
    """Predictions of people with known labels by models that were not trained on them.

    probs: float [N, 18]; pred_labels, labels: int [N]; people: [N], the person of each photo.
    """

    probs: np.ndarray
    pred_labels: np.ndarray
    labels: np.ndarray
    people: np.ndarray


@dataclass(frozen=True)
class EvalPredictions:
    """Predictions of the eval photos.

    fold_probs: float [K, E, 18], by the models of each fold; fold_pred_labels: int [K, E], the labels that are chosen
    from them; pred_labels: int [E], those of the submission.
    """

    fold_probs: np.ndarray
    fold_pred_labels: np.ndarray
    pred_labels: np.ndarray


@dataclass(frozen=True)
class ExpectedScore:
    """The expected macro F1 of a submission, its 95 % interval, and the gain over one fold's models in it."""

    macro_f1: float
    interval95: list[float]
    gain: float
    gain_std_error: float


def expect_score(
    oof: LabelledPredictions,
    unlabelled: EvalPredictions,
    eval_people: int,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> ExpectedScore:
    """Estimate the macro F1 of a submission; eval_people: the number of people in the eval set, above 0."""
    gain, gain_error = estimate_fold_gain(oof, unlabelled, resampling)
    estimate = min(macro_f1(oof.labels, oof.pred_labels) + gain, 1.0)
    spread = new_set_scores(oof.labels, oof.pred_labels, oof.people, eval_people, resampling).std(ddof=1)
    half = Z_TWO_SIDED * float(np.hypot(spread, gain_error))
    return ExpectedScore(estimate, [max(estimate - half, 0.0), min(estimate + half, 1.0)], gain, gain_error)


def estimate_fold_gain(
    oof: LabelledPredictions, unlabelled: EvalPredictions, resampling: Resampling = DEFAULT_RESAMPLING
) -> tuple[float, float]:
    """(gain in macro F1 of the submission over single folds' models, its standard error)."""
    log_prior = learnt_log_prior(log_probs_of(oof.probs), oof.labels)
    family = PosteriorFamily(log_probs_of(unlabelled.fold_probs).mean(0) - log_prior, np.log(class_shares(oof.labels)))
    accuracies, gains = np.empty(len(TEMPERATURES)), np.empty(len(TEMPERATURES))
    for index, temperature in enumerate(TEMPERATURES):
        posterior = family.at(temperature)
        singles = unlabelled.fold_pred_labels
        accuracies[index] = np.mean([expected_accuracy(posterior, labels) for labels in singles])
        gains[index] = expected_macro_f1(posterior, unlabelled.pred_labels) - np.mean(
            [expected_macro_f1(posterior, labels) for labels in singles]
        )
    # The accuracy falls with the temperature; np.interp needs rising values.
    order = np.argsort(accuracies, kind="stable")
    correct = (oof.pred_labels == oof.labels).astype(np.float64)
    gain = float(np.interp(correct.mean(), accuracies[order], gains[order]))
    resampled = np.interp(_resampled_accuracy(correct, oof, resampling), accuracies[order], gains[order])
    return gain, float(np.hypot(resampled.std(ddof=1), MODEL_ERROR * gain))


def _resampled_accuracy(correct: np.ndarray, oof: LabelledPredictions, resampling: Resampling) -> np.ndarray:
    """The share of correct predictions of resampled people, float [resamples]."""
    people = People(oof.labels, oof.people)
    per_person = np.stack([np.bincount(people.person_index, weights) for weights in (correct, np.ones(len(correct)))])
    samples = people.resample(np.random.default_rng(resampling.seed), resampling.count)
    num_correct, num_photos = people.totals(per_person.T[:, None], samples)[:, 0].T
    return num_correct / num_photos
