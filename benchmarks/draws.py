#!/usr/bin/env python
"""Does board95 foretell a new set? Disjoint draws of people out of a data set whose labels are all known.

Each draw's training people are cross-validated; its held-out people are the eval side, scored by one fold's model and
by the mean of all. Prints a table, a row a draw, and how often the score lay inside its interval.

    python benchmarks/draws.py --data DATA --out DRAWS --model.backbone tf_efficientnet_lite0 --model.weights FILE
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.config.cli import Parser, add_config_flags, config_flags, run
from maskfold.config.config_file import load_config
from maskfold.config.experiment import Config, replaced
from maskfold.data.images_table import Prepared, load_prepared
from maskfold.data.prepare import prepare
from maskfold.data.raw_layout import find_layout
from maskfold.fileio import write_text
from maskfold.inference.submission import make_submission
from maskfold.inference.submission_csv import load_true_and_submitted
from maskfold.labels import stratum
from maskfold.metrics.scores import macro_f1
from maskfold.training.fit import fit_run

# Frozen features: half a minute a draw.
RECIPE = "model: {frozen_epochs: all}\noptim: {epochs: 20, lr: 0.003}\nrun: {wandb: disabled}\n"


def main() -> None:
    parser = Parser(description=__doc__)
    add_draw_flags(parser)
    parser.add_argument("--recipe", type=Path, help="an experiment YAML (default: heads on frozen features)")
    add_config_flags(parser)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = args.recipe or args.out / "recipe.yaml"
    if args.recipe is None:
        write_text(recipe, RECIPE)
    whole = _prepared(args.raw, args.out / "prepared")
    experiment, rows = load_config(recipe, config_flags(args)), []
    for number, people in enumerate(deal(whole, args.draws, args.train_people + args.eval_people, experiment.seed)):
        folder = args.out / f"draw{number}"
        train, held_out = people[: args.train_people], people[args.train_people :]
        write_draw(whole, train, held_out, folder / "raw")
        config = replaced(experiment, data={"root": folder / "raw", "prepared": folder / "prepared"})
        rows.append({"draw": number, **score_draw(config, folder)})
        print(" ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    print_table(pd.DataFrame(rows))


def add_draw_flags(parser: Parser) -> None:
    parser.add_argument("--data", dest="raw", type=Path, required=True, help="raw data folder with labels")
    parser.add_argument("--out", type=Path, required=True, help="where the draws and their runs go")
    parser.add_argument("--draws", type=int, default=8, help="(default: 8)")
    parser.add_argument("--train-people", type=int, default=200, help="(default: 200)")
    parser.add_argument("--eval-people", type=int, default=100, help="(default: 100)")


def deal(prepared: Prepared, draws: int, size: int, seed: int) -> list[np.ndarray]:
    """Disjoint groups of `size` people, each in the whole's gender x age mix, in random order within."""
    rng = np.random.default_rng(seed)
    people = prepared.images.drop_duplicates("person_id")
    order = people.iloc[rng.permutation(len(people))]
    # Dealt out in turn, stratum after stratum.
    order = order.iloc[np.argsort(stratum(order.label.to_numpy()), kind="stable")]
    step = len(order) // size
    if step < draws:
        raise SystemExit(f"{len(order)} people give {step} draws of {size}, not {draws}")
    return [rng.permutation(order.person_id.to_numpy()[at::step][:size]) for at in range(draws)]


def write_draw(prepared: Prepared, train: np.ndarray, held_out: np.ndarray, out: Path) -> None:
    """The competition's layout of links to the photos: train people, held-out people as the eval side, its answers."""
    shutil.rmtree(out, ignore_errors=True)
    images, root = prepared.images, Path(prepared.meta["root"])
    rows = []
    for person in train:
        photos = images[images.person_id == person]
        source = (root / photos.path.iloc[0]).parent
        (out / "train" / "images").mkdir(parents=True, exist_ok=True)
        (out / "train" / "images" / source.name).symlink_to(source)
        first = photos.iloc[0]
        rows.append({"id": person, "gender": first.gender, "race": "Asian", "age": first.age, "path": source.name})
    pd.DataFrame(rows).to_csv(out / "train" / "train.csv", index=False)
    asked = images[images.person_id.isin(held_out)]
    (out / "eval" / "images").mkdir(parents=True)
    names = [f"{number:040x}{Path(path).suffix}" for number, path in enumerate(asked.path)]
    for name, path in zip(names, asked.path, strict=True):
        (out / "eval" / "images" / name).symlink_to(root / path)
    pd.DataFrame({"ImageID": names, "ans": 0}).to_csv(out / "eval" / "info.csv", index=False)
    pd.DataFrame({"ImageID": names, "ans": asked.label}).to_csv(out / "answers.csv", index=False)


def score_draw(config: Config, folder: Path) -> dict:
    """Out-of-fold score, its board95, and what fold 0's model and the mean of all score on the held-out people."""
    shutil.rmtree(folder / "prepared", ignore_errors=True)
    found = {}
    for name, folds in (("one", [0]), ("mean", None)):
        trained, _ = fit_run(config, f"{folder.parent.name}-{folder.name}", folds, fresh=folds is not None)
        out = folder / f"{name}.csv"
        manifest, _, _ = make_submission([trained], ["none"], out)
        found[name] = macro_f1(*load_true_and_submitted(out, folder / "raw" / "answers.csv"))
    expected = manifest["expected"]
    low, high = expected["board95"]
    return {"oof": expected["macro_f1"], "low": low, "high": high, **found}


def print_table(table: pd.DataFrame) -> None:
    print("| draw | out-of-fold | board95 | one fold's model | mean of the folds |\n|---|---|---|---|---|")
    for row in table.itertuples():
        print(f"| {row.draw} | {row.oof:.4f} | [{row.low:.4f}, {row.high:.4f}] | {row.one:.4f} | {row.mean:.4f} |")
    inside = ((table.low <= table["one"]) & (table["one"] <= table.high)).sum()
    gain = table["mean"] - table["one"]
    print(
        f"one fold's model inside board95: {inside} of {len(table)}; the mean under it: "
        f"{(table['mean'] < table.low).sum()}, over it: {(table['mean'] > table.high).sum()}; the mean adds "
        f"{gain.mean():+.4f}, spread {gain.std():.4f}"
    )


def _prepared(data: Path, folder: Path) -> Prepared:
    return load_prepared(folder) if folder.exists() else prepare(find_layout(data), folder)


if __name__ == "__main__":
    run(main)
