#!/usr/bin/env python
"""Coverage of board95 on new people: disjoint samples (draws) of people from a data set whose labels are all known.

The training people of a sample are cross-validated. The other people of the sample are its eval set, which one fold's
model and the mean of all fold models predict. Prints one row per sample, and how often the score was inside board95.

    python benchmarks/draws.py --data DATA --out DRAWS --model.backbone tf_efficientnet_lite0 --model.weights FILE
"""

import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.config.cli import Parser, add_config_flags, config_overrides, run
from maskfold.config.experiment import Config, replaced
from maskfold.config.yaml_file import load_config
from maskfold.data.images_table import Prepared, load_prepared
from maskfold.data.prepared_folder import prepare
from maskfold.data.raw_layout import find_layout
from maskfold.fileio import write_text
from maskfold.inference.submission import make_submission
from maskfold.inference.submission_csv import load_true_and_submitted
from maskfold.labels import stratum
from maskfold.metrics.scores import macro_f1
from maskfold.training.fit import fit_run
from maskfold.training.fold_job import TrainRequest

# Heads on frozen features take half a minute per sample.
RECIPE = "model: {frozen_epochs: all}\noptim: {epochs: 20, lr: 0.003}\nrun: {wandb: disabled}\n"


def main() -> None:
    parser = Parser(description=__doc__)
    add_draw_flags(parser)
    add_recipe_flags(parser)
    args = parser.parse_args()
    experiment, rows = load_recipe(args), []
    whole = prepared_in(args.raw, args.out / "prepared")
    for number, people in enumerate(
        sample_people(whole, args.draws, args.train_people + args.eval_people, experiment.seed)
    ):
        folder = args.out / f"draw{number}"
        train, held_out = people[: args.train_people], people[args.train_people :]
        write_draw(whole, train, held_out, folder / "raw")
        config = replaced(experiment, data={"root": folder / "raw", "prepared": folder / "prepared"})
        rows.append({"draw": number, **score_draw(config, folder)})
        print(" ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    print_table(pd.DataFrame(rows))


def add_recipe_flags(parser: Parser) -> None:
    parser.add_argument(
        "--recipe", type=Path, help="configuration (YAML) of the experiment (default: heads on frozen features)"
    )
    add_config_flags(parser)


def load_recipe(args: Namespace) -> Config:
    """Load the experiment of add_recipe_flags; the default recipe is written into the folder --out."""
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = args.recipe or args.out / "recipe.yaml"
    if args.recipe is None:
        write_text(recipe, RECIPE)
    return load_config(recipe, config_overrides(args))


def add_draw_flags(parser: Parser) -> None:
    parser.add_argument("--data", dest="raw", type=Path, required=True, help="raw data folder with labels")
    parser.add_argument("--out", type=Path, required=True, help="folder for the samples and their runs")
    parser.add_argument("--draws", type=int, default=8, help="number of samples (default: 8)")
    parser.add_argument("--train-people", type=int, default=200, help="training people per sample (default: 200)")
    parser.add_argument("--eval-people", type=int, default=100, help="held-out people per sample (default: 100)")


def sample_people(prepared: Prepared, draws: int, size: int, seed: int) -> list[np.ndarray]:
    """Disjoint groups of `size` people in random order, each with the gender x age distribution of all people."""
    rng = np.random.default_rng(seed)
    people = prepared.images.drop_duplicates("person_id")
    order = people.iloc[rng.permutation(len(people))]
    # Sorted by gender x age group, then assigned to the groups in turn.
    order = order.iloc[np.argsort(stratum(order.label.to_numpy()), kind="stable")]
    step = len(order) // size
    if step < draws:
        raise SystemExit(
            f"{len(order)} people are enough for {step} samples of {size}, not {draws}; give a lower --draws"
        )
    return [rng.permutation(order.person_id.to_numpy()[start::step][:size]) for start in range(draws)]


def write_draw(prepared: Prepared, train: np.ndarray, held_out: np.ndarray, out: Path) -> pd.DataFrame:
    """Write a raw data folder with links to the photos: the training people, the held-out people as eval set, and the
    true labels of the eval set. Return the columns person_id and label of the eval photos, with their ids as index."""
    shutil.rmtree(out, ignore_errors=True)
    images, root = prepared.images, prepared.root.resolve()
    rows = []
    for person in train:
        photos = images[images.person_id == person]
        source = (root / photos.path.iloc[0]).parent
        (out / "train" / "images").mkdir(parents=True, exist_ok=True)
        (out / "train" / "images" / source.name).symlink_to(source)
        first = photos.iloc[0]
        rows.append({"id": person, "gender": first.gender, "race": "Asian", "age": first.age, "path": source.name})
    pd.DataFrame(rows).to_csv(out / "train" / "train.csv", index=False)
    eval_photos = images[images.person_id.isin(held_out)]
    (out / "eval" / "images").mkdir(parents=True)
    names = [f"{number:040x}{Path(path).suffix}" for number, path in enumerate(eval_photos.path)]
    for name, path in zip(names, eval_photos.path, strict=True):
        (out / "eval" / "images" / name).symlink_to(root / path)
    pd.DataFrame({"ImageID": names, "ans": 0}).to_csv(out / "eval" / "info.csv", index=False)
    pd.DataFrame({"ImageID": names, "ans": eval_photos.label}).to_csv(out / "answers.csv", index=False)
    return eval_photos[["person_id", "label"]].set_axis(names)


def score_draw(config: Config, folder: Path) -> dict:
    """Return the out-of-fold score, board95, and the scores of fold 0's model and of the mean on held-out people."""
    shutil.rmtree(folder / "prepared", ignore_errors=True)
    scores = {}
    for name, folds in (("one", [0]), ("mean", None)):
        trained, _ = fit_run(
            config, f"{folder.parent.name}-{folder.name}", TrainRequest(folds, fresh=folds is not None)
        )
        out = folder / f"{name}.csv"
        manifest, _, _ = make_submission([trained], ["none"], out)
        scores[name] = macro_f1(*load_true_and_submitted(out, folder / "raw" / "answers.csv"))
    expected = manifest["expected"]
    low, high = expected["board95"]
    return {"oof": expected["macro_f1"], "low": low, "high": high, **scores}


def print_table(table: pd.DataFrame) -> None:
    print("| draw | out-of-fold | board95 | one fold's model | mean of the folds |\n|---|---|---|---|---|")
    for row in table.itertuples():
        print(f"| {row.draw} | {row.oof:.4f} | [{row.low:.4f}, {row.high:.4f}] | {row.one:.4f} | {row.mean:.4f} |")
    inside = ((table.low <= table["one"]) & (table["one"] <= table.high)).sum()
    gain = table["mean"] - table["one"]
    print(
        f"one fold's model inside board95: {inside} of {len(table)}; the mean below it: "
        f"{(table['mean'] < table.low).sum()}, above it: {(table['mean'] > table.high).sum()}; the mean adds "
        f"{gain.mean():+.4f}, spread {gain.std():.4f}"
    )


def prepared_in(data: Path, folder: Path) -> Prepared:
    return load_prepared(folder) if folder.exists() else prepare(find_layout(data), folder)


if __name__ == "__main__":
    run(main)
