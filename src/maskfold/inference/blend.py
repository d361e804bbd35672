"""Runs -> one set of probabilities and answers: calibrated, weighted, decided, on the eval side and out-of-fold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.inference.cache import predict_runs, prepared_of
from maskfold.inference.cross_fit import CrossFitted, Fitted, cross_fit, decision_gain, fit, is_worth_it
from maskfold.metrics.bootstrap import Comparison
from maskfold.probabilities import OutOfFold, Predictions, join
from maskfold.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Blend:
    """What an ensemble says.

    oof: the photos that all members predict out-of-fold, members: their probabilities float [M, N, 18] in its order.
    crossed: the same blend of people it was not fitted on, whose score is the one to expect. gain: of the decision over
    the most probable label, None where that was not asked for.
    """

    evaluation: Predictions
    pred_labels: np.ndarray
    oof: OutOfFold
    members: np.ndarray
    crossed: CrossFitted
    fitted: Fitted
    gain: Comparison | None
    prepared: Prepared


def blend_runs(
    runs: Sequence[RunFolder], views: tuple[str, ...], blend: str = "mean", decision: str = "argmax"
) -> Blend:
    """Predict with each run, fit what `blend` and `decision` ask for on all out-of-fold predictions, and apply it.

    A decision that may lose macro F1 is not taken: `fitted` has no factors then, though `gain` is told.
    Raises UserError for members that do not belong together, naming what differs.
    """
    datasets, predicted = _predicted(runs, views)
    joined = join([oof for _, oof in predicted])
    oof, members = joined[0], np.stack([member.probs for member in joined])
    gain = None
    crossed = cross_fit(members, oof.label, oof.person_id, blend, decision)
    fitted = fit(members, oof.label, oof.person_id, blend, decision)
    if fitted.factors is not None:
        gain = decision_gain(crossed, oof.label, oof.person_id)
        if not is_worth_it(gain):
            crossed = replace(crossed, pred_labels=crossed.probs.argmax(1))
            fitted = replace(fitted, factors=None)
    evaluation, answers = _applied(fitted, [found for found, _ in predicted])
    return Blend(evaluation, answers, oof, members, crossed, fitted, gain, datasets[0])


def blend_again(
    runs: Sequence[RunFolder], views: tuple[str, ...], fitted: Fitted
) -> tuple[Predictions, np.ndarray, Prepared]:
    """(eval predictions, answers int [N], prepared folder) with what was fitted before. Raises as blend_runs does."""
    datasets, predicted = _predicted(runs, views)
    return *_applied(fitted, [found for found, _ in predicted]), datasets[0]


def _predicted(
    runs: Sequence[RunFolder], views: tuple[str, ...]
) -> tuple[list[Prepared], list[tuple[Predictions, OutOfFold]]]:
    datasets = [prepared_of(run) for run in runs]
    _check_together(runs, datasets)
    return datasets, predict_runs(runs, datasets, views)


def _applied(fitted: Fitted, evaluations: Sequence[Predictions]) -> tuple[Predictions, np.ndarray]:
    joined = join(evaluations)
    members = np.stack([member.probs for member in joined])
    return replace(joined[0], probs=fitted.probs(members), source=None), fitted.pred_labels(members)


def _check_together(runs: Sequence[RunFolder], datasets: Sequence[Prepared]) -> None:
    """Raises UserError where members saw other photos, labels or folds than the first."""
    first, folds = datasets[0], _dealt(datasets[0])
    for run, prepared in zip(runs[1:], datasets[1:], strict=True):
        for key, what in (("fingerprint", "training photos or labels"), ("eval_fingerprint", "eval photos")):
            if prepared.meta[key] != first.meta[key]:
                raise UserError(
                    f"{run.folder}: has other {what} ({prepared.folder}: {key} {prepared.meta[key]}) than "
                    f"{runs[0].folder} ({first.folder}: {first.meta[key]}); blend runs on the same data"
                )
        other = _dealt(prepared)
        moved = [person for person, fold in folds.items() if other[person] != fold]
        if moved:
            raise UserError(
                f"{run.folder}: has {len(moved)} of {len(folds)} people, {moved[0]} for one, in other folds "
                f"({prepared.folder / 'folds.csv'}) than {runs[0].folder} ({first.folder / 'folds.csv'}); blend runs "
                "of the same folds, so that what is fitted on some people is scored on others"
            )


def _dealt(prepared: Prepared) -> dict[str, int]:
    return dict(zip(prepared.folds.person_id, prepared.folds.fold, strict=True))
