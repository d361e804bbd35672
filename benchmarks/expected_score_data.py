#!/usr/bin/env python
"""Measure the expected score of a submission on people whose labels are known.

The people of a data set are divided into training sets. Each is cross-validated, and its submission is scored on people
who are not in it: on all of them for the error of the estimate, and on disjoint parts of them for the coverage of the
interval. The parts of one training set share their models, so coverage is given with an error over training sets.

    python benchmarks/expected_score_data.py --data DATA --out OUT --model.backbone tf_efficientnet_lite0 ...
"""

from pathlib import Path

import numpy as np
import pandas as pd
from draws import add_recipe_flags, load_recipe, prepared_in, sample_people, write_draw

from maskfold.config.cli import Parser, run
from maskfold.config.experiment import Config, replaced
from maskfold.data.images_table import Prepared
from maskfold.fileio import write_csv
from maskfold.inference.blend import Blend, blend_runs
from maskfold.inference.expected_score import EvalPredictions, LabelledPredictions, expect_score
from maskfold.metrics.bootstrap import score_intervals
from maskfold.metrics.scores import macro_f1
from maskfold.training.fit import fit_run

WHOLE = "all"


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", dest="raw", type=Path, required=True, help="raw data folder with labels")
    parser.add_argument("--out", type=Path, required=True, help="folder for the training sets and their runs")
    parser.add_argument("--sets", type=int, default=6, help="number of disjoint training sets (default: 6)")
    parser.add_argument("--train-people", type=int, default=300, help="people of a training set (default: 300)")
    parser.add_argument("--eval-people", type=int, default=1500, help="other people to score (default: 1500)")
    parser.add_argument("--part-people", type=int, default=200, help="people of a part of them (default: 200)")
    parser.add_argument("--members", type=int, default=1, help="runs of a submission, with seeds in turn (default: 1)")
    parser.add_argument("--blend", default="mean", help="as in submit.py (default: mean)")
    parser.add_argument("--decision", default="argmax", help="as in submit.py (default: argmax)")
    add_recipe_flags(parser)
    args = parser.parse_args()
    experiment = load_recipe(args)
    whole, rows, errors = prepared_in(args.raw, args.out / "prepared"), [], []
    for number, (train, others) in enumerate(
        training_sets(whole, args.sets, args.train_people, args.eval_people, experiment.seed)
    ):
        folder = args.out / f"set{number}"
        truth = write_draw(whole, train, others, folder / "raw")
        config = replaced(experiment, data={"root": folder / "raw", "prepared": folder / "prepared"})
        blend = submission_of(config, f"{args.out.name}-set{number}", args.members, args.blend, args.decision)
        truth = truth.loc[blend.eval_predictions.image_id]
        rows += score_parts(blend, truth, parts_of(others, args.part_people), number)
        errors.append(resampled_errors(blend, truth, whole, experiment.seed))
        write_csv(args.out / "scores.csv", pd.DataFrame(rows))
        print(" ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    print_result(pd.DataFrame(rows), np.mean(errors, axis=0))


def training_sets(
    prepared: Prepared, sets: int, train_people: int, eval_people: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Disjoint training sets, each with the gender x age distribution of all people, and other people for each."""
    everybody, rng = prepared.images.person_id.unique(), np.random.default_rng(seed)
    if len(everybody) < train_people + eval_people:
        raise SystemExit(f"{len(everybody)} people are not enough; give a lower --train-people or --eval-people")
    return [
        (train, rng.permutation(np.setdiff1d(everybody, train))[:eval_people])
        for train in sample_people(prepared, sets, train_people, seed)
    ]


def parts_of(people: np.ndarray, size: int) -> list[np.ndarray]:
    return [people[start : start + size] for start in range(0, len(people) - size + 1, size)]


def submission_of(config: Config, name: str, members: int, blend: str, decision: str) -> Blend:
    """Train the members that are not finished, and blend them."""
    runs = [
        fit_run(config.model_copy(update={"seed": config.seed + number}), f"{name}-{number}")[0]
        for number in range(members)
    ]
    return blend_runs(runs, ("none",), blend, decision)


def score_parts(blend: Blend, truth: pd.DataFrame, parts: list[np.ndarray], number: int) -> list[dict]:
    """A row with the expected and the true score for each part, and one for all people, the last."""
    oof, crossed, rows = blend.oof, blend.cross_fitted, []
    labelled = LabelledPredictions(crossed.probs, crossed.pred_labels, oof.label, oof.person_id)
    named = [*((str(index), part) for index, part in enumerate(parts)), (WHOLE, truth.person_id.unique())]
    for name, people in named:
        chosen = truth.person_id.isin(people).to_numpy()
        folds = blend.fold_pred_labels[:, chosen]
        unlabelled = EvalPredictions(blend.fold_probs[:, chosen], folds, blend.pred_labels[chosen])
        expected = expect_score(labelled, unlabelled, len(people))
        labels = truth.label.to_numpy()[chosen]
        score = macro_f1(labels, unlabelled.pred_labels)
        board = score_intervals(oof.label, crossed.pred_labels, oof.person_id, len(people))["board95"]
        row = {"set": number, "part": name, "people": len(people), "score": score, "expected": expected.macro_f1}
        row |= {"low": expected.interval95[0], "high": expected.interval95[1]}
        row |= {"board_low": board[0], "board_high": board[1]}
        row["gain"] = score - float(np.mean([macro_f1(labels, predicted) for predicted in folds]))
        row |= {"expected_gain": expected.gain, "gain_std_error": expected.gain_std_error}
        rows.append(row)
    return rows


def resampled_errors(blend: Blend, truth: pd.DataFrame, whole: Prepared, seed: int, count: int = 500) -> np.ndarray:
    """Out-of-fold score minus score of the submission, float [count], each with other weights of the people.

    The same person has the same weight in all training sets and eval sets, because the sets share people.
    """
    everybody = np.sort(whole.images.person_id.unique())
    weights = np.random.default_rng(seed).poisson(1, (count, len(everybody)))
    oof, sides = blend.oof, []
    for labels, predicted, people in (
        (oof.label, blend.cross_fitted.pred_labels, oof.person_id),
        (truth.label.to_numpy(), blend.pred_labels, truth.person_id.to_numpy()),
    ):
        index = np.searchsorted(everybody, people)
        sides.append([macro_f1(np.repeat(labels, row[index]), np.repeat(predicted, row[index])) for row in weights])
    return np.subtract(*sides)


def print_result(table: pd.DataFrame, resampled: np.ndarray) -> None:
    """resampled: float [R], the mean over training sets of resampled_errors."""
    whole, parts = table[table.part == WHOLE], table[table.part != WHOLE]
    error = whole.expected - whole.score
    print("| set | score | expected | gain | expected gain | 95 % interval |\n|---|---|---|---|---|---|")
    for row in whole.itertuples():
        print(
            f"| {row.set} | {row.score:.4f} | {row.expected:.4f} | {row.gain:+.4f} | {row.expected_gain:+.4f} | "
            f"[{row.low:.4f}, {row.high:.4f}] |"
        )
    print(
        f"all people: signed error {error.mean():+.4f}, standard error over people {resampled.std(ddof=1):.4f}, over "
        f"training sets {error.std(ddof=1) / np.sqrt(len(error)):.4f}; gains above .02: {(whole.gain > 0.02).sum()} of "
        f"{len(whole)}; error of the gain {(whole.expected_gain - whole.gain).mean():+.4f}, standard deviation "
        f"{(whole.expected_gain - whole.gain).std(ddof=1):.4f}"
    )
    for name, low, high in (("interval95", parts.low, parts.high), ("board95", parts.board_low, parts.board_high)):
        inside = (low <= parts.score) & (parts.score <= high)
        by_set = inside.groupby(parts.set).mean()
        print(
            f"parts: {inside.sum()} of {len(inside)} scores inside {name} ({inside.mean():.1%}, standard error over "
            f"training sets {by_set.std(ddof=1) / np.sqrt(len(by_set)):.1%}); below {(parts.score < low).sum()}, above "
            f"{(parts.score > high).sum()}"
        )
    width = (parts.high - parts.low) / (parts.board_high - parts.board_low)
    print(f"width / width of board95: median {width.median():.2f}, largest {width.max():.2f}")


if __name__ == "__main__":
    run(main)
