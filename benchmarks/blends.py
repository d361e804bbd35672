#!/usr/bin/env python
"""Gains of ensemble weights, decisions and TTA views on held-out people, with the samples of people of draws.py.

On each sample two members are trained: heads on frozen features, with two image sizes and crops. Each method is fitted
on the out-of-fold predictions and scored on the held-out people. Prints the gains over the mean of both members with
one TTA view and the most probable label.

    python benchmarks/blends.py --data DATA --out DRAWS --model.backbone tf_efficientnet_lite0 --model.weights FILE
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from draws import RECIPE, add_draw_flags, prepared_in, sample_people, write_draw
from scipy.stats import t

from maskfold.config.cli import Parser, add_config_flags, config_overrides, run
from maskfold.config.experiment import Config, replaced
from maskfold.config.yaml_file import load_config
from maskfold.fileio import write_text
from maskfold.inference.blend import Blend, apply_blend, blend_runs
from maskfold.inference.cross_fit import fit
from maskfold.metrics.scores import macro_f1
from maskfold.runs.run_folder import RunFolder
from maskfold.training.fit import fit_run

MEMBERS = {"small": {"image_size": (128, 96), "crop": "center"}, "large": {"image_size": (160, 120), "crop": "none"}}
BASE = ("mean", "argmax", ("none",))
METHODS = {
    "blend oof": ("oof", "argmax", ("none",)),
    "blend logloss": ("logloss", "argmax", ("none",)),
    "decision macro-f1, or argmax if it may lose": ("mean", "macro-f1", ("none",)),
    "hflip": ("mean", "argmax", ("none", "hflip")),
    "oof, macro-f1 and hflip": ("oof", "macro-f1", ("none", "hflip")),
}


def main() -> None:
    parser = Parser(description=__doc__)
    add_draw_flags(parser)
    add_config_flags(parser)
    args = parser.parse_args()
    whole = prepared_in(args.raw, args.out / "prepared")
    write_text(args.out / "recipe.yaml", RECIPE)
    experiment, rows = load_config(args.out / "recipe.yaml", config_overrides(args)), []
    for number, people in enumerate(
        sample_people(whole, args.draws, args.train_people + args.eval_people, experiment.seed)
    ):
        # The folder's name depends on the people, so that a sample of other people is not resumed.
        digest = hashlib.sha256(" ".join(people).encode() + bytes(args.train_people)).hexdigest()[:8]
        draw = args.out / f"draw{number}-{digest}"
        # answers.csv is written last.
        if not (draw / "raw" / "answers.csv").exists():
            write_draw(whole, people[: args.train_people], people[args.train_people :], draw / "raw")
        rows.append(score_draw(experiment, draw, f"{args.out.name}-{number}-{digest}"))
        print(" ".join(f"{name} {value:.4f}" for name, value in rows[-1].items()), flush=True)
    print_table(pd.DataFrame(rows))


def score_draw(experiment: Config, draw: Path, name: str) -> dict[str, float]:
    """{method: macro F1 on the held-out people}."""
    runs = []
    for member, keys in MEMBERS.items():
        data = {"root": draw / "raw", "prepared": draw / "prepared", **keys}
        runs.append(fit_run(replaced(experiment, data=data), f"{name}-{member}")[0])
    truth = pd.read_csv(draw / "raw" / "answers.csv").set_index("ImageID").ans
    scores = {}
    for run_folder, member in zip(runs, MEMBERS, strict=True):
        scores[f"{member} alone"] = _score(truth, blend_runs([run_folder], ("none",)))
    base = blend_runs(runs, BASE[2])
    scores["mean"] = _score(truth, base)
    for method, (blend, decision, views) in METHODS.items():
        scores[method] = _score(truth, blend_runs(runs, views, blend, decision))
    scores["decision macro-f1, always"] = _score_without_fallback(truth, runs, base)
    return scores


def _score(truth: pd.Series, blend: Blend) -> float:
    return macro_f1(truth[blend.eval_predictions.image_id].to_numpy(), blend.pred_labels)


def _score_without_fallback(truth: pd.Series, runs: list[RunFolder], base: Blend) -> float:
    """Score of the decision macro-f1, used even if it may lose."""
    params = fit(base.member_probs, base.oof.label, base.oof.person_id, "mean", "macro-f1")
    evaluation, pred_labels, _ = apply_blend(runs, ("none",), params)
    return macro_f1(truth[evaluation.image_id].to_numpy(), pred_labels)


def print_table(table: pd.DataFrame) -> None:
    """Print one row per method: its mean score, and the mean, spread and error of its gain over `mean`."""
    print(f"| n = {len(table)} draws | macro F1 | difference from the mean | spread | +- (95 %) | better in |")
    print("|---|---|---|---|---|---|")
    for method in table:
        gain = table[method] - table["mean"]
        error = t.ppf(0.975, len(table) - 1) * gain.std(ddof=1) / np.sqrt(len(table))
        print(
            f"| {method} | {table[method].mean():.4f} | {gain.mean():+.4f} | {gain.std(ddof=1):.4f} | {error:.4f} | "
            f"{int((gain > 0).sum())} |"
        )


if __name__ == "__main__":
    run(main)
