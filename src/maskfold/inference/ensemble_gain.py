"""What the mean of fold models adds over one of them: the out-of-fold score is of single models, a submission is not.

Estimated from repeats, runs of one experiment that differ in seed or folds: each predicts a person by a model that has
not seen them, and so does the mean of the repeats. The error of a mean of m like models falls as 1/m towards what they
have in common (Krogh & Vedelsby 1995), so what r repeats gain grows to what K folds gain by (1 - 1/K) / (1 - 1/r).
Folds share more of their people than repeats by other folds do: an estimate, said as such.
"""

from collections.abc import Sequence

import numpy as np

from maskfold.config.experiment import Config, fixed_values
from maskfold.errors import UserError
from maskfold.fileio import read_json, write_json
from maskfold.metrics.bootstrap import RESAMPLES, People, percentile_interval
from maskfold.metrics.scores import metrics_of
from maskfold.probabilities import OutOfFold, load_predictions, mean
from maskfold.runs.run_folder import RunFolder

FILE = "gain.json"
# What repeats may differ in.
FREE = ("seed", "data.fold_seed", "data.prepared")


def are_repeats(configs: Sequence[Config]) -> bool:
    """Whether all describe one experiment, no two with the same seed and folds: those would be one model twice."""
    keys = [{key: value for key, value in fixed_values(config).items() if key not in FREE} for config in configs]
    draws = {tuple(fixed_values(config)[key] for key in FREE) for config in configs}
    return len(configs) > 1 and len(draws) == len(configs) and all(found == keys[0] for found in keys[1:])


def estimate_gain(oofs: Sequence[OutOfFold], folds: int, seed: int = 0) -> dict:
    """{gain, ci95} in macro F1 of the mean of `folds` models over one, from the repeats' out-of-fold predictions."""
    together = mean(oofs)
    singles = [oof.aligned(together.image_id) for oof in oofs]
    who = People(together.label, together.person_id)
    tallies = [who.tally(together.label, found.pred_labels) for found in (together, *singles)]
    grows = (1 - 1 / folds) / (1 - 1 / len(oofs))

    def gain(totals: list[np.ndarray]) -> np.ndarray:
        whole, *each = (metrics_of(total)["macro_f1"] for total in totals)
        return grows * (whole - np.mean(each, axis=0))

    drawn = who.resample(np.random.default_rng(seed), RESAMPLES)
    spread = gain([who.totals(tally, drawn) for tally in tallies])
    return {"gain": float(gain([tally.sum(0) for tally in tallies])), "ci95": percentile_interval(spread)}


def record_gain(runs: Sequence[RunFolder]) -> dict:
    """Estimate the gain from repeats and keep it in each run's folder."""
    oofs = [load_predictions(run.folder / "oof.npz", out_of_fold=True) for run in runs]
    found = estimate_gain(oofs, runs[0].config.data.folds) | {"from": [run.name for run in runs]}
    for run in runs:
        write_json(run.folder / FILE, found)
    return found


def gain_of_folds(runs: Sequence[RunFolder]) -> dict | None:
    """The gain on record for a blend of these runs, or None where one has none.

    A blend of R runs is the mean of R models already out-of-fold: the folds add an R-th of what they add to one.
    """
    held = []
    for run in runs:
        path = run.folder / FILE
        if not path.exists():
            return None
        found = read_json(path, "evaluate the repeats again")
        if not {"gain", "ci95", "from"} <= found.keys():
            raise UserError(f"{path}: gain, ci95 and from are expected; delete it and evaluate the repeats again")
        held.append(found)
    gain = np.mean([found["gain"] for found in held]) / len(runs)
    bounds = np.mean([found["ci95"] for found in held], axis=0) / len(runs)
    sources = list(dict.fromkeys(name for found in held for name in found["from"]))
    return {"gain": float(gain), "ci95": bounds.tolist(), "from": sources}
