"""Estimate the score of a submission, with an interval, without further training.

The out-of-fold score is that of one fold's models; a submission averages the models of all folds. The gain from this
average is estimated on the eval photos, because all models predict every eval photo. This gain is the macro F1 of the
submission minus the macro F1 of one fold's models, averaged over the folds; both are computed under the posterior of
metrics/eval_posterior.py. The estimate is the out-of-fold score plus this gain. The interval has the spread of an
out-of-fold score on a new set of people: the training people are resampled, and a set as large as the eval set is
sampled from each resample. The standard error of the gain is added to this spread in quadrature. If repeats of the
experiment give another estimate of the gain (ensemble_gain.py), the two estimates are averaged with inverse-variance
weights.

Assumptions: the eval people come from the population of the training people (loading/photo_shift.py tests this; the
estimate is wrong otherwise); the folds' models are equally good; the mean of their log-probabilities contains all that
they know about the true labels; a model trained on all people (--refit) is about as good as a fold's model.
"""

from dataclasses import dataclass

import numpy as np

from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.inference.blend import Blend, blend_predictions
from maskfold.inference.cached_predictions import read_cached_predictions
from maskfold.inference.ensemble_gain import load_gain
from maskfold.metrics.bootstrap import DEFAULT_RESAMPLING, Z_TWO_SIDED, Resampling, new_set_means, new_set_scores
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
from maskfold.runs.run_folder import RunFolder

# The part of the gain's standard error that comes from errors of the posterior, as a share of the gain. The sample of
# people adds its own error. The value was measured: see EXPERIMENTS.md, "Expected score of a submission".
MODEL_ERROR = 0.05


@dataclass(frozen=True)
class LabelledPredictions:
    """Predictions of people with known labels, by models that were not trained on these people.

    probs: float [N, 18]; pred_labels, labels: int [N]; people: [N], the person of each photo.
    """

    probs: np.ndarray
    pred_labels: np.ndarray
    labels: np.ndarray
    people: np.ndarray


@dataclass(frozen=True)
class EvalPredictions:
    """Predictions of the eval photos.

    fold_probs: float [K, E, 18], the probabilities predicted by the models of each fold; fold_pred_labels: int [K, E],
    the labels chosen from fold_probs; pred_labels: int [E], the labels of the submission.
    """

    fold_probs: np.ndarray
    fold_pred_labels: np.ndarray
    pred_labels: np.ndarray


@dataclass(frozen=True)
class FoldGain:
    """The gain in macro F1 of a submission over the models of a single fold, and its standard error."""

    gain: float
    std_error: float


@dataclass(frozen=True)
class ExpectedScore:
    """The expected macro F1 of a submission. It includes `gain`, the gain over one fold's models.

    interval95: the 95 % interval [low, high]. half95: the interval on half of the eval set; None if the eval set has
    only one person.
    """

    macro_f1: float
    interval95: list[float]
    half95: list[float] | None
    gain: float
    gain_std_error: float


def expect_blend(blended: Blend, repeats: dict | None) -> dict:
    """Return the keys submission and submission_half95 of `expected` in a manifest; both are None without eval people.

    repeats: the gain that was estimated from repeats, as load_gain returns it, or None.
    """
    eval_people = blended.prepared.num_eval_people
    if not eval_people:
        return {"submission": None, "submission_half95": None}
    oof, crossed = blended.oof, blended.cross_fitted
    expected = expect_score(
        LabelledPredictions(crossed.probs, crossed.pred_labels, oof.label, oof.person_id),
        EvalPredictions(blended.fold_probs, blended.fold_pred_labels, blended.pred_labels),
        eval_people,
        repeats=gain_of_repeats(repeats) if repeats else None,
    )
    submission = {name: getattr(expected, name) for name in ("macro_f1", "interval95", "gain", "gain_std_error")}
    return {"submission": submission, "submission_half95": expected.half95}


def expect_from_cache(run: RunFolder, prepared: Prepared) -> dict | None:
    """Return the result of expect_blend for one run without TTA; None if it has no valid cached predictions."""
    try:
        predicted = read_cached_predictions(run, prepared, ("none",))
        if predicted is None:
            return None
        return expect_blend(blend_predictions([run], prepared, [predicted]), load_gain([run]))
    except UserError:
        return None


def gain_of_repeats(repeats: dict) -> FoldGain:
    """Convert the result of load_gain to a FoldGain. The standard error follows from the width of the interval."""
    low, high = repeats["ci95"]
    return FoldGain(repeats["gain"], (high - low) / (2 * Z_TWO_SIDED))


def combine_gains(first: FoldGain, second: FoldGain) -> FoldGain:
    """Average two independent estimates with inverse-variance weights. One with standard error 0 is returned as is."""
    variances = np.square([first.std_error, second.std_error])
    if not variances.all():
        return min(first, second, key=lambda estimate: estimate.std_error)
    weights = 1 / variances / (1 / variances).sum()
    return FoldGain(float(weights @ [first.gain, second.gain]), float((1 / variances).sum() ** -0.5))


def expect_score(
    oof: LabelledPredictions,
    unlabelled: EvalPredictions,
    eval_people: int,
    resampling: Resampling = DEFAULT_RESAMPLING,
    repeats: FoldGain | None = None,
) -> ExpectedScore:
    """Estimate the macro F1 of a submission.

    eval_people: the number of people in the eval set, above 0. repeats: the gain that was estimated from repeats.
    """
    gain = estimate_fold_gain(oof, unlabelled, eval_people, resampling)
    if repeats is not None:
        gain = combine_gains(gain, repeats)
    estimate = min(max(macro_f1(oof.labels, oof.pred_labels) + gain.gain, 0.0), 1.0)

    def interval(people: int) -> list[float]:
        spread = new_set_scores(oof.labels, oof.pred_labels, oof.people, people, resampling).std(ddof=1)
        half = Z_TWO_SIDED * float(np.hypot(spread, gain.std_error))
        return [max(estimate - half, 0.0), min(estimate + half, 1.0)]

    half95 = interval(eval_people // 2) if eval_people > 1 else None
    return ExpectedScore(estimate, interval(eval_people), half95, gain.gain, gain.std_error)


def estimate_fold_gain(
    oof: LabelledPredictions,
    unlabelled: EvalPredictions,
    eval_people: int,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> FoldGain:
    """Estimate the gain on the eval photos under the posterior.

    The temperature of the posterior is the one at which the expected accuracy of one fold's models, averaged over the
    folds, equals their accuracy on `oof`. Their true accuracy on the eval people differs from it, because both are
    samples of people. The gain is a curved function of the accuracy, so this difference causes a bias, which is
    estimated by resampling and subtracted (Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 10).
    """
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
    # np.interp needs increasing accuracies, but the accuracy falls as the temperature rises.
    order = np.argsort(accuracies, kind="stable")
    correct = (oof.pred_labels == oof.labels).astype(np.float64)
    gain = float(np.interp(correct.mean(), accuracies[order], gains[order]))
    new_accuracies = new_set_means(correct, oof.labels, oof.people, eval_people, resampling)
    resampled = np.interp(new_accuracies, accuracies[order], gains[order])
    gain -= float(resampled.mean()) - gain
    return FoldGain(gain, float(np.hypot(resampled.std(ddof=1), MODEL_ERROR * gain)))
