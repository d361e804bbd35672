#!/usr/bin/env python
"""What did joining runs bring on a held-out set whose truth is known? Each member and each way, out-of-fold beside it.

    python benchmarks/members.py runs/ONE runs/TWO ... --truth DATA/answers.csv [--tta none hflip]

Out-of-fold scores are cross-fitted: of people whose labels have chosen nothing. The truth scores, it chooses nothing.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.config.cli import Parser, run
from maskfold.inference.blend import blend_runs
from maskfold.inference.cache import predict_runs, prepared_of
from maskfold.inference.ensemble_weights import BLENDS, hard_vote
from maskfold.inference.submission_csv import read_submission
from maskfold.metrics.bootstrap import compare
from maskfold.metrics.scores import scores
from maskfold.models.tta import canonical_views
from maskfold.probabilities import join
from maskfold.runs.run_folder import RunFolder, find_run


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or their names")
    parser.add_argument("--truth", type=Path, required=True, help="the CSV with the eval photos' true answers")
    parser.add_argument("--tta", nargs="+", default=["none"], help="views (default: none)")
    args = parser.parse_args()
    runs, views = [RunFolder(find_run(given)) for given in args.runs], canonical_views(args.tta, "--tta")
    truth = read_submission(args.truth).set_index("ImageID").ans
    rows, whole = [], {}
    for member in runs:
        found = blend_runs([member], views)
        rows.append(
            (
                f"{member.name} alone",
                found.oof,
                found.cross_fitted.pred_labels,
                found.eval_predictions.image_id,
                found.pred_labels,
            )
        )
    for blend in BLENDS:
        whole[blend] = found = blend_runs(runs, views, blend)
        rows.append(
            (
                f"blend {blend}",
                found.oof,
                found.cross_fitted.pred_labels,
                found.eval_predictions.image_id,
                found.pred_labels,
            )
        )
        print(
            f"weights {blend}: "
            + ", ".join(f"{r.name} {w:.3f}" for r, w in zip(runs, found.params.weights, strict=True))
        )
    rows.append(_hard_vote(runs, views))
    for blend in ("mean", "oof"):
        found = blend_runs(runs, views, blend, "macro-f1")
        taken = "taken" if found.params.factors else "not taken"
        name = f"blend {blend}, decision macro-f1 ({taken})"
        rows.append(
            (name, found.oof, found.cross_fitted.pred_labels, found.eval_predictions.image_id, found.pred_labels)
        )
        gain = found.decision_gain
        print(f"decision on {blend}: {gain.difference:+.4f} [{gain.ci95[0]:+.4f}, {gain.ci95[1]:+.4f}], {taken}")
    print_table(rows, whole["mean"].cross_fitted.pred_labels, truth)


def _hard_vote(runs: list[RunFolder], views: tuple[str, ...]) -> tuple:
    predicted = predict_runs(runs, [prepared_of(member) for member in runs], views)
    evaluations, oofs = (join([pair[side] for pair in predicted]) for side in (0, 1))
    said = [hard_vote(np.stack([member.probs for member in side])) for side in (oofs, evaluations)]
    return "hard vote", oofs[0], said[0], evaluations[0].image_id, said[1]


def print_table(rows: list[tuple], mean: np.ndarray, truth: pd.Series) -> None:
    print("| | out-of-fold macro F1 | less that of the mean [95 %] | held-out macro F1 | accuracy | gender | age |")
    print("|---|---|---|---|---|---|---|")
    for name, oof, said, ids, answers in rows:
        found = compare(oof.label, said, mean, oof.person_id)
        held = scores(truth[ids].to_numpy(), answers)
        cells = [f"{scores(oof.label, said)['macro_f1']:.4f}"]
        cells.append(f"{found.difference:+.4f} [{found.ci95[0]:+.4f}, {found.ci95[1]:+.4f}]")
        cells += [f"{held[key]:.4f}" for key in ("macro_f1", "accuracy", "gender_accuracy", "age_accuracy")]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    run(main)
