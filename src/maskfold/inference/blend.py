"""Runs -> one set of probabilities: each calibrated, then averaged, on the eval side and out-of-fold alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from maskfold.analysis.calibration import cross_fitted, fit_temperature, tempered
from maskfold.data.prepared import Prepared
from maskfold.errors import UserError
from maskfold.inference.predict import predict_runs, prepared_of
from maskfold.predictions import Predictions, mean
from maskfold.training.runs import RunFolder


@dataclass(frozen=True)
class Blend:
    """What an ensemble says. The out-of-fold side is tempered cross-fitted: no photo's label chose its own temperature.

    weights sum to 1; one weight and one temperature a run.
    """

    evaluation: Predictions
    oof: Predictions
    weights: list[float]
    temperatures: list[float]
    prepared: Prepared


def blend_runs(
    runs: Sequence[RunFolder],
    views: tuple[str, ...],
    weights: Sequence[float] | None = None,
    temperatures: Sequence[float] | None = None,
) -> Blend:
    """Predict with each run and average. Without `weights` all count alike; without `temperatures` they are fitted on
    all of a run's out-of-fold predictions.

    Raises UserError for members that do not belong together, naming what differs.
    """
    datasets = [prepared_of(run) for run in runs]
    _check_together(runs, datasets)
    predicted = predict_runs(runs, datasets, views)
    if temperatures is None:
        temperatures = [fit_temperature(oof.probs, oof.label) for _, oof in predicted]
    evaluations = [
        replace(found, probs=tempered(found.probs, temperature))
        for (found, _), temperature in zip(predicted, temperatures, strict=True)
    ]
    oofs = [replace(oof, probs=cross_fitted(oof)[0]) for _, oof in predicted]
    weights = np.full(len(runs), 1 / len(runs)) if weights is None else np.asarray(weights, float)
    return Blend(mean(evaluations, weights), mean(oofs, weights), weights.tolist(), list(temperatures), datasets[0])


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
