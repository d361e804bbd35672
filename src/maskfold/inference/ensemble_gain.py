"""The gain of the mean of fold models over one of them: the out-of-fold score is of single models, a submission is not.

It is estimated from repeats, runs of one experiment with different seeds or folds: like each of them, the mean of the
repeats predicts every person out-of-fold. The error of a mean of m similar models falls as 1/m towards the error that
they share (Krogh & Vedelsby 1995), so the gain of r repeats is multiplied by (1 - 1/K) / (1 - 1/r) for K folds. Fold
models share more of their training people than repeats on other folds do: it is an estimate, and is reported as one.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from pydantic import Field

from maskfold.config.experiment import fixed_values
from maskfold.fileio import read_json, sha256, write_json
from maskfold.json_record import Interval, JsonRecord, check_record
from maskfold.metrics.bootstrap import RESAMPLES, People, percentile_interval
from maskfold.metrics.scores import metrics_from_tally
from maskfold.probabilities import OutOfFold, load_predictions, mean
from maskfold.runs.run_folder import RunFolder

GAIN_FILE = "gain.json"
# The keys in which repeats may differ, beside the folds.
REPEAT_KEYS = ("seed", "data.fold_seed")


class Gain(JsonRecord):
    """The content of gain.json."""

    gain: float
    ci95: Interval
    names: list[str] = Field(alias="from")
    predictions: list[str] = Field(default_factory=list)


def are_repeats(runs: Sequence[RunFolder]) -> bool:
    """Whether all are of one experiment, and no two have the same seed and folds, which would be the same model."""
    values = [fixed_values(run.config) for run in runs]
    settings = [{key: value for key, value in each.items() if key not in REPEAT_KEYS} for each in values]
    seeds = {(each["seed"], run.provenance["identity"]) for run, each in zip(runs, values, strict=True)}
    return len(runs) > 1 and len(seeds) == len(runs) and all(other == settings[0] for other in settings[1:])


def estimate_gain(oofs: Sequence[OutOfFold], folds: int, seed: int = 0) -> dict:
    """{gain, ci95} in macro F1 of the mean of `folds` models over one, from the repeats' out-of-fold predictions."""
    averaged = mean(oofs)
    singles = [oof.aligned(averaged.image_id) for oof in oofs]
    people = People(averaged.label, averaged.person_id)
    tallies = [people.tally(averaged.label, oof.pred_labels) for oof in (averaged, *singles)]
    factor = (1 - 1 / folds) / (1 - 1 / len(oofs))

    def gain(totals: list[np.ndarray]) -> np.ndarray:
        whole, *each = (metrics_from_tally(total)["macro_f1"] for total in totals)
        return factor * (whole - np.mean(each, axis=0))

    samples = people.resample(np.random.default_rng(seed), RESAMPLES)
    resampled = gain([people.totals(tally, samples) for tally in tallies])
    return {"gain": float(gain([tally.sum(0) for tally in tallies])), "ci95": percentile_interval(resampled)}


def record_gain(runs: Sequence[RunFolder]) -> dict:
    """Estimate the gain from repeats and write it to gain.json, in --cache or each run's folder.

    `predictions` are the hashes of their out-of-fold predictions, by which load_gain sees that a repeat has changed.
    """
    oofs = [load_predictions(run.folder / "oof.npz", out_of_fold=True) for run in runs]
    estimate = estimate_gain(oofs, runs[0].config.data.folds)
    estimate |= {"from": [run.name for run in runs], "predictions": [sha256(run.folder / "oof.npz") for run in runs]}
    for run in runs:
        run.places.cache.keep(
            run.cache_paths(GAIN_FILE)[0], partial(write_json, content=estimate), "the estimated gain"
        )
    return estimate


def load_gain(runs: Sequence[RunFolder]) -> dict | None:
    """The recorded gain for a blend of these runs, None if one of them has none, or a repeat was trained again since.

    A blend of R runs is already the mean of R models out-of-fold: the folds add 1/R of what they add to one model.
    """
    estimates = []
    for run in runs:
        path = next((path for path in run.cache_paths(GAIN_FILE) if path.exists()), None)
        if path is None:
            return None
        estimate = read_json(path, "evaluate the repeats again")
        check_record(path, estimate, Gain, "delete it and evaluate the repeats again")
        if not _is_current(run, estimate):
            return None
        estimates.append(estimate)
    gain = np.mean([estimate["gain"] for estimate in estimates]) / len(runs)
    bounds = np.mean([estimate["ci95"] for estimate in estimates], axis=0) / len(runs)
    sources = list(dict.fromkeys(name for estimate in estimates for name in estimate["from"]))
    return {"gain": float(gain), "ci95": bounds.tolist(), "from": sources}


def _is_current(run: RunFolder, estimate: dict) -> bool:
    """Whether the run and the repeats beside it still have the predictions from which the gain was estimated.

    A repeat in another place can't be checked, nor can an estimate of an older version, which has no hashes.
    """
    hashes = estimate.get("predictions")
    names = [run.name, *estimate["from"]]
    paths = [run.folder.parent / name / "oof.npz" for name in names]
    return hashes is None or all(sha256(path) in hashes for path in paths if path.exists())
