#!/usr/bin/env python
"""What is each lever worth? One experiment, and the same with one thing changed, arm by arm, on the same folds.

    python benchmarks/ablation.py configs/resnet18.yaml --data.root DATA --data.folds 3 --model.weights FILE ...

Trains what is not trained yet into runs/<prefix><arm>-<seed>, then compares every arm with the reference: paired
intervals from resampling people, the mean over an arm's seeds. Prints a table in Markdown.
"""

from pathlib import Path

import numpy as np

from maskfold.config.cli import Parser, add_config_flags, config_flags, run
from maskfold.config.config_file import load_config
from maskfold.config.experiment import Config, flatten
from maskfold.errors import UserError, did_you_mean
from maskfold.metrics.bootstrap import compare
from maskfold.metrics.scores import scores
from maskfold.probabilities import Predictions, load_predictions
from maskfold.runs.run_folder import RunFolder, runs_root
from maskfold.training.fit import fit_run

METRICS = ("macro_f1", "mask_accuracy", "gender_accuracy", "age_accuracy")
# What each arm changes of it.
ARMS = {
    "reference": {},
    "focal": {"loss.name": "focal"},
    "label smoothing .1": {"loss.label_smoothing": "0.1"},
    "class weights": {"loss.class_weights": "inverse"},
    "balanced sampling": {"data.sampling": "balanced"},
    "CE + soft F1": {"loss.plus": "soft_f1"},
    "factored, 3 groups": {"model.head": "factored", "model.age_bin_years": "30"},
    "factored, ages": {"model.head": "factored", "loss.age_weight": "1"},
    "MixUp .4": {"mix.name": "mixup", "mix.alpha": "0.4"},
    "half CutMix, old": {"mix.name": "half_cutmix", "mix.partner": "old"},
    "EMA .98": {"optim.ema_decay": "0.98"},
    "strong augmentation": {"data.augment": "strong"},
    "randaugment": {"data.augment": "randaugment"},
    "decay .9, clip 1, zero head": {
        "optim.layer_decay": "0.9",
        "optim.clip_norm": "1",
        "model.head_init": "zero",
    },
    "mean of 2 epochs": {"run.keep": "mean", "run.keep_epochs": "2"},
}


# The reference, whatever the file has: what any arm changes, at the schema's default.
REFERENCE = {
    key: value for key, value in flatten(Config().model_dump()).items() if any(key in arm for arm in ARMS.values())
}


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path, help="the experiment that all arms share")
    parser.add_argument("--arms", nargs="+", help="names of arms to train (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="training seeds (default: 42)")
    parser.add_argument("--prefix", default="", help="of the runs' names (default: none)")
    add_config_flags(parser)
    args = parser.parse_args()
    arms = args.arms or list(ARMS)
    for arm in arms:
        if arm not in ARMS:
            raise UserError(f"--arms {arm}: there are {', '.join(ARMS)}{did_you_mean(arm, ARMS)}")
    todo = {
        run_name(args.prefix, arm, seed): load_config(
            args.file, REFERENCE | config_flags(args) | ARMS[arm] | {"seed": str(seed)}
        )
        for arm in arms
        for seed in args.seeds
    }
    if "reference" not in arms and not trained(args.prefix, "reference"):
        raise UserError("--arms: the reference is not trained yet; add it, the others are compared with it")
    for name, config in todo.items():
        fit_run(config, name)
    print_table({arm: trained(args.prefix, arm) for arm in ARMS})


def run_name(prefix: str, arm: str, seed: int) -> str:
    return prefix + arm.replace(" ", "_").replace(",", "") + f"-{seed}"


def trained(prefix: str, arm: str) -> dict[int, Predictions]:
    """Out-of-fold predictions of an arm's finished runs by seed, in one order of photos."""
    name = run_name(prefix, arm, 0)[:-1]
    folders = [path for path in sorted(runs_root().glob(f"{name}*")) if (path / "summary.json").exists()]
    found = {}
    for folder in folders:
        oof = load_predictions(folder / "oof.npz", out_of_fold=True)
        found[RunFolder(folder).config.seed] = oof.aligned(np.sort(oof.image_id))
    return found


def print_table(arms: dict[str, dict[int, Predictions]]) -> None:
    """A row an arm: its scores, and the difference to the reference over the seeds that both have."""
    reference = arms["reference"]
    print("| arm | seeds | macro F1 (spread) | mask | gender | age | arm - reference: macro F1 | mask | gender | age |")
    print("|" + "---|" * 10)
    for arm, runs in arms.items():
        common = sorted(runs.keys() & reference.keys())
        if not common:
            continue
        first = reference[common[0]]
        ours, theirs = (np.stack([side[seed].pred_labels for seed in common]) for side in (runs, reference))
        each = [scores(first.label, answers) for answers in ours]
        values = [float(np.mean([found[metric] for found in each])) for metric in METRICS]
        spread = f" ({np.std([found['macro_f1'] for found in each], ddof=1):.4f})" if len(common) > 1 else ""
        cells = [f"{values[0]:.4f}{spread}", *(f"{value:.3f}" for value in values[1:])]
        for metric in METRICS:
            found = compare(first.label, ours, theirs, first.person_id, metric)
            low, high = found.ci95
            cells.append("" if arm == "reference" else f"{found.difference:+.3f} [{low:+.3f}, {high:+.3f}]")
        print(f"| {arm} | {len(common)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    run(main)
