"""Blend runs into one set of probabilities and predicted labels, for the eval set and out-of-fold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.inference.cached_predictions import predict_runs
from maskfold.inference.cross_fit import BlendParams, CrossFitted, accepts_decision, cross_fit, decision_gain, fit
from maskfold.inference.decision import decide
from maskfold.metrics.paired_comparison import Comparison
from maskfold.probabilities import OutOfFold, Predictions, join
from maskfold.runs.run_data import prepared_of
from maskfold.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Blend:
    """The predictions of an ensemble.

    eval_predictions, pred_labels: the probabilities and labels of the E eval photos. fold_probs: float [K, E, 18], the
    probabilities of the eval photos when only the models of one fold are blended, for each of the K folds that all
    members have finished; fold_pred_labels: int [K, E], the labels chosen from fold_probs. oof: the N photos that all
    members predict out-of-fold, with their labels and people, and the predictions of the first member only;
    member_probs: float [M, N, 18], the probabilities of all M members for these photos. cross_fitted: the blend's
    predictions of these photos; each photo is predicted by the models of one fold only, with parameters that were
    fitted without its person. params: fitted on all people. decision_gain: the gain of the decision over the most
    probable label; None for the decision argmax.
    """

    eval_predictions: Predictions
    pred_labels: np.ndarray
    fold_probs: np.ndarray
    fold_pred_labels: np.ndarray
    oof: OutOfFold
    member_probs: np.ndarray
    cross_fitted: CrossFitted
    params: BlendParams
    decision_gain: Comparison | None
    prepared: Prepared


def blend_runs(
    runs: Sequence[RunFolder], views: tuple[str, ...], blend: str = "mean", decision: str = "argmax"
) -> Blend:
    """Predict with each run, fit the parameters of `blend` and `decision` on out-of-fold predictions, and apply them.

    If `accepts_decision` returns False, the decision is not used: `params` then has no factors, but `decision_gain` is
    set. Raises UserError if members have different data or folds; the message names the difference.
    """
    datasets, predicted = _predict(runs, views, need_folds=True)
    return blend_predictions(runs, datasets[0], predicted, blend, decision)


def blend_predictions(
    runs: Sequence[RunFolder],
    prepared: Prepared,
    predicted: Sequence[tuple[Predictions, OutOfFold]],
    blend: str = "mean",
    decision: str = "argmax",
) -> Blend:
    """Blend runs as blend_runs does, with given predictions.

    predicted: the (eval, out-of-fold) predictions of each run; the eval predictions must have fold_probs.
    """
    joined = join([oof for _, oof in predicted])
    oof, members = joined[0], np.stack([member.probs for member in joined])
    gain = None
    crossed = cross_fit(members, oof.label, oof.person_id, blend, decision)
    params = fit(members, oof.label, oof.person_id, blend, decision)
    if params.factors is not None:
        gain = decision_gain(crossed, oof.label, oof.person_id)
        if not accepts_decision(gain):
            crossed = replace(crossed, pred_labels=crossed.probs.argmax(1))
            params = replace(params, factors=None)
    evaluations = [predictions for predictions, _ in predicted]
    eval_predictions, pred_labels = _apply(params, evaluations)
    fold_probs = np.stack([params.probs(fold_members) for fold_members in _members_by_fold(runs, evaluations)])
    fold_pred_labels = np.stack([decide(probs, params.factors) for probs in fold_probs])
    return Blend(
        eval_predictions, pred_labels, fold_probs, fold_pred_labels, oof, members, crossed, params, gain, prepared
    )


def apply_blend(
    runs: Sequence[RunFolder], views: tuple[str, ...], params: BlendParams
) -> tuple[Predictions, np.ndarray, Prepared]:
    """Blend runs with given parameters. Return (eval predictions, predicted labels int [N], prepared folder).

    Raises UserError as blend_runs does.
    """
    datasets, predicted = _predict(runs, views)
    return *_apply(params, [predictions for predictions, _ in predicted]), datasets[0]


def _predict(
    runs: Sequence[RunFolder], views: tuple[str, ...], need_folds: bool = False
) -> tuple[list[Prepared], list[tuple[Predictions, OutOfFold]]]:
    datasets = [prepared_of(run) for run in runs]
    _check_same_data(runs, datasets)
    return datasets, predict_runs(runs, datasets, views, need_folds)


def _apply(params: BlendParams, eval_predictions: Sequence[Predictions]) -> tuple[Predictions, np.ndarray]:
    joined = join(eval_predictions)
    members = np.stack([member.probs for member in joined])
    blended = replace(joined[0], probs=params.probs(members), source=None, fold_probs=None)
    return blended, params.predict(members)


def _members_by_fold(runs: Sequence[RunFolder], eval_predictions: Sequence[Predictions]) -> list[np.ndarray]:
    """For each fold that all members have finished, return [M, E, 18]: the members' eval probabilities."""
    by_fold = []
    for run, predictions in zip(runs, join(eval_predictions), strict=True):
        assert predictions.fold_probs is not None
        by_fold.append(dict(zip(run.finished_folds, predictions.fold_probs, strict=True)))
    folds = sorted(set(by_fold[0]).intersection(*by_fold[1:]))
    return [np.stack([probs_by_fold[fold] for probs_by_fold in by_fold]) for fold in folds]


def _check_same_data(runs: Sequence[RunFolder], datasets: Sequence[Prepared]) -> None:
    """Raise UserError if the photos, labels or folds of a member differ from those of the first member."""
    first, folds = datasets[0], datasets[0].fold_by_person
    for run, prepared in zip(runs[1:], datasets[1:], strict=True):
        for key, what in (("fingerprint", "training photos or labels"), ("eval_fingerprint", "eval photos")):
            if prepared.meta[key] != first.meta[key]:
                raise UserError(
                    f"{run.folder}: has different {what} ({prepared.folder}: {key} {prepared.meta[key]}) from "
                    f"{runs[0].folder} ({first.folder}: {first.meta[key]}); blend only runs that were "
                    "trained on the same data"
                )
        own_folds = prepared.fold_by_person
        moved = [person for person, fold in folds.items() if own_folds[person] != fold]
        if moved:
            raise UserError(
                f"{run.folder}: has {len(moved)} of {len(folds)} people (for example {moved[0]}) in other folds "
                f"({prepared.folder / 'folds.csv'}) than {runs[0].folder} ({first.folder / 'folds.csv'}); blend only "
                "runs with the same folds; otherwise people used for fitting are also used for scoring"
            )
