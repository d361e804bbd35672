#!/usr/bin/env python
"""Ablation: train an experiment, and variants of it (arms) that each change one option, on the same folds.

    python benchmarks/ablation.py configs/resnet18.yaml --data.root DATA --data.folds 3 --model.weights FILE ...

Trains the runs that do not exist yet, as runs/<prefix><arm>-<seed>. Then compares each arm, averaged over its seeds,
with the reference (or another arm, --against) by paired intervals from resampling people, and prints a Markdown table.
"""

from pathlib import Path

import numpy as np

from maskfold.config.cli import Parser, add_config_flags, config_overrides, run
from maskfold.config.experiment import Config, flatten
from maskfold.config.yaml_file import load_config
from maskfold.errors import UserError, did_you_mean
from maskfold.labels import is_old
from maskfold.metrics.paired_comparison import compare_by_metric
from maskfold.metrics.scores import scores
from maskfold.probabilities import Predictions, load_predictions
from maskfold.runs.run_folder import RunFolder, runs_root
from maskfold.training.fit import fit_run

METRICS = ("macro_f1", "mask_accuracy", "gender_accuracy", "age_accuracy")
# {arm: the keys that it changes}.
ARMS = {
    "reference": {},
    "focal": {"loss.name": "focal"},
    "label smoothing .1": {"loss.label_smoothing": "0.1"},
    "class weights": {"loss.class_weights": "inverse"},
    "balanced sampling": {"data.sampling": "balanced"},
    "CE + soft F1": {"loss.plus": "soft_f1"},
    "factored, 3 groups": {"model.head": "factored", "model.age_bin_years": "30"},
    "factored, ages": {"model.head": "factored", "loss.age_weight": "1"},
    "factored, ages, 60+ truncated": {"model.head": "factored", "loss.age_weight": "1", "loss.age_truncated": "true"},
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


# Every key that an arm changes has the schema's default in the reference, even if the file gives another value.
REFERENCE = {
    key: value for key, value in flatten(Config().model_dump()).items() if any(key in arm for arm in ARMS.values())
}


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path, help="configuration that all arms share")
    parser.add_argument("--arms", nargs="+", help="names of arms to train (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="training seeds (default: 42)")
    parser.add_argument("--against", default="reference", help="arm to compare with (default: reference)")
    parser.add_argument("--prefix", default="", help="prefix of the names of the runs (default: none)")
    add_config_flags(parser)
    args = parser.parse_args()
    arms = args.arms or list(ARMS)
    for flag, arm in [*(("--arms", arm) for arm in arms), ("--against", args.against)]:
        if arm not in ARMS:
            raise UserError(f"{flag} {arm}: unknown arm; use one of {', '.join(ARMS)}{did_you_mean(arm, ARMS)}")
    configs = {
        run_name(args.prefix, arm, seed): load_config(
            args.file, REFERENCE | config_overrides(args) | ARMS[arm] | {"seed": str(seed)}
        )
        for arm in arms
        for seed in args.seeds
    }
    if args.against not in arms and not trained(args.prefix, args.against):
        raise UserError(
            f"--arms: {args.against} is not trained yet, and the other arms are compared with it; add {args.against}"
        )
    for name, config in configs.items():
        fit_run(config, name)
    print_table({arm: trained(args.prefix, arm) for arm in ARMS}, args.against)


def run_name(prefix: str, arm: str, seed: int) -> str:
    return prefix + arm.replace(" ", "_").replace(",", "") + f"-{seed}"


def trained(prefix: str, arm: str) -> dict[int, Predictions]:
    """{seed: out-of-fold predictions} of the finished runs of an arm, sorted by image id."""
    name = run_name(prefix, arm, 0)[:-1]
    folders = [path for path in sorted(runs_root().glob(f"{name}*")) if (path / "summary.json").exists()]
    oof_by_seed = {}
    for folder in folders:
        oof = load_predictions(folder / "oof.npz", out_of_fold=True)
        oof_by_seed[RunFolder(folder).config.seed] = oof.aligned(np.sort(oof.image_id))
    return oof_by_seed


def print_table(arms: dict[str, dict[int, Predictions]], against: str) -> None:
    """Print one row per arm: its scores, and its difference from the arm `against` over the seeds that both have."""
    reference = arms[against]
    print(
        "| arm | seeds | macro F1 (spread) | mask | gender | age | recall of 60+ | "
        f"arm - {against}: macro F1 | mask | gender | age |"
    )
    print("|" + "---|" * 11)
    for arm, runs in arms.items():
        common = sorted(runs.keys() & reference.keys())
        if not common:
            continue
        first = reference[common[0]]
        arm_labels, reference_labels = (
            np.stack([oof_by_seed[seed].pred_labels for seed in common]) for oof_by_seed in (runs, reference)
        )
        seed_scores = [scores(first.label, pred_labels) for pred_labels in arm_labels]
        values = [float(np.mean([row[metric] for row in seed_scores])) for metric in METRICS]
        spread = f" ({np.std([row['macro_f1'] for row in seed_scores], ddof=1):.4f})" if len(common) > 1 else ""
        old_recall = is_old(arm_labels)[:, is_old(first.label)].mean()
        cells = [f"{values[0]:.4f}{spread}", *(f"{value:.3f}" for value in values[1:]), f"{old_recall:.3f}"]
        gains = compare_by_metric(first.label, arm_labels, reference_labels, first.person_id)
        for metric in METRICS:
            gain, (low, high) = gains[metric], gains[metric].ci95
            cells.append("" if arm == against else f"{gain.difference:+.3f} [{low:+.3f}, {high:+.3f}]")
        print(f"| {arm} | {len(common)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    run(main)
