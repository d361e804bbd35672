"""Estimate how much higher the mean of the fold models scores than a single fold model.

The out-of-fold score is that of single models, but a submission is the mean of all fold models. The gain is estimated
from repeats: runs of one experiment with different seeds or folds. Like each repeat, the mean of the repeats predicts
every person out-of-fold. The error of a mean of m similar models falls as 1/m towards the error that they share (Krogh
& Vedelsby 1995), so the gain of r repeats is multiplied by (1 - 1/K) / (1 - 1/r) for K folds. The models of two folds
share fewer training people than the models of two repeats, so the result is only an estimate, and is reported as one.
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
# The keys that can differ between repeats. The folds can differ too.
REPEAT_KEYS = ("seed", "data.fold_seed")


class Gain(JsonRecord):
    """The content of gain.json."""

    gain: float
    ci95: Interval
    names: list[str] = Field(alias="from")
    predictions: list[str] = Field(default_factory=list)


def are_repeats(runs: Sequence[RunFolder]) -> bool:
    """Whether the runs are repeats: they differ only in REPEAT_KEYS, and no two have the same seed and folds."""
    values = [fixed_values(run.config) for run in runs]
    settings = [{key: value for key, value in each.items() if key not in REPEAT_KEYS} for each in values]
    seeds = {(each["seed"], run.provenance["identity"]) for run, each in zip(runs, values, strict=True)}
    return len(runs) > 1 and len(seeds) == len(runs) and all(other == settings[0] for other in settings[1:])


def estimate_gain(oofs: Sequence[OutOfFold], folds: int, seed: int = 0) -> dict:
    """Return {gain: macro F1 of the mean of `folds` models minus that of one model, ci95: its 95 % interval}.

    oofs: the out-of-fold predictions of the repeats.
    """
    averaged = mean(oofs)
    singles = [oof.aligned(averaged.image_id) for oof in oofs]
    people = People(averaged.label, averaged.person_id)
    tallies = [people.tally(averaged.label, oof.pred_labels) for oof in (averaged, *singles)]
    factor = (1 - 1 / folds) / (1 - 1 / len(oofs))

    def gain(totals: list[np.ndarray]) -> np.ndarray:
        averaged_f1, *single_f1s = (metrics_from_tally(total)["macro_f1"] for total in totals)
        return factor * (averaged_f1 - np.mean(single_f1s, axis=0))

    samples = people.resample(np.random.default_rng(seed), RESAMPLES)
    resampled = gain([people.totals(tally, samples) for tally in tallies])
    return {"gain": float(gain([tally.sum(0) for tally in tallies])), "ci95": percentile_interval(resampled)}


def record_gain(runs: Sequence[RunFolder]) -> dict:
    """Estimate the gain from repeats and write it to gain.json of each run: in --cache if given, else in its folder.

    The key `predictions` of gain.json has the hash of each repeat's oof.npz, so that load_gain can detect a change.
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
    """Return the recorded gain for a blend of these runs.

    Returns None if a run has no recorded gain, or if a repeat has been trained again since the gain was recorded. The
    out-of-fold score of a blend of R runs is already that of a mean of R models, so averaging over the folds adds only
    1/R of what it adds for a single run.
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
    """Whether the run, and its repeats in the same parent folder, still have the predictions used for the estimate.

    Repeats in other folders are not checked, nor are estimates of older versions, which have no hashes.
    """
    hashes = estimate.get("predictions")
    names = [run.name, *estimate["from"]]
    paths = [run.folder.parent / name / "oof.npz" for name in names]
    return hashes is None or all(sha256(path) in hashes for path in paths if path.exists())
