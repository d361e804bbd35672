#!/usr/bin/env python
"""Gain of blending runs, out-of-fold and on an eval set with known labels: each member and each blend.

    python benchmarks/members.py runs/ONE runs/TWO ... --truth DATA/answers.csv [--tta none hflip]

Out-of-fold scores are cross-fitted: weights and decisions are fitted on other people. The true labels are only used to
score.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.config.cli import Parser, run
from maskfold.inference.blend import Blend, blend_runs
from maskfold.inference.cached_predictions import predict_runs
from maskfold.inference.ensemble_weights import BLENDS, hard_vote
from maskfold.inference.submission_csv import read_submission
from maskfold.metrics.paired_comparison import compare
from maskfold.metrics.scores import scores
from maskfold.models.tta import canonical_views
from maskfold.probabilities import join
from maskfold.runs.run_data import prepared_of
from maskfold.runs.run_folder import RunFolder, find_run


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or names under runs/")
    parser.add_argument("--truth", type=Path, required=True, help="CSV of the true labels of the eval photos")
    parser.add_argument("--tta", nargs="+", default=["none"], help="TTA views (default: none)")
    args = parser.parse_args()
    runs, views = [RunFolder(find_run(folder)) for folder in args.runs], canonical_views(args.tta, "--tta")
    truth = read_submission(args.truth).set_index("ImageID").ans
    rows, whole = [], {}
    for member in runs:
        rows.append(_row(f"{member.name} alone", blend_runs([member], views)))
    for method in BLENDS:
        whole[method] = blend = blend_runs(runs, views, method)
        rows.append(_row(f"blend {method}", blend))
        weights = zip(runs, blend.params.weights, strict=True)
        print(f"weights {method}: " + ", ".join(f"{member.name} {weight:.3f}" for member, weight in weights))
    rows.append(_hard_vote(runs, views))
    for method in ("mean", "oof"):
        blend = blend_runs(runs, views, method, "macro-f1")
        usage = "used" if blend.params.factors else "not used"
        rows.append(_row(f"blend {method}, decision macro-f1 ({usage})", blend))
        gain = blend.decision_gain
        print(f"decision on {method}: {gain.difference:+.4f} [{gain.ci95[0]:+.4f}, {gain.ci95[1]:+.4f}], {usage}")
    print_table(rows, whole["mean"].cross_fitted.pred_labels, truth)


def _row(name: str, blend: Blend) -> tuple:
    return name, blend.oof, blend.cross_fitted.pred_labels, blend.eval_predictions.image_id, blend.pred_labels


def _hard_vote(runs: list[RunFolder], views: tuple[str, ...]) -> tuple:
    predicted = predict_runs(runs, [prepared_of(member) for member in runs], views)
    evaluations, oofs = (join([pair[side] for pair in predicted]) for side in (0, 1))
    oof_labels, eval_labels = (hard_vote(np.stack([m.probs for m in members])) for members in (oofs, evaluations))
    return "hard vote", oofs[0], oof_labels, evaluations[0].image_id, eval_labels


def print_table(rows: list[tuple], mean: np.ndarray, truth: pd.Series) -> None:
    print("| | out-of-fold macro F1 | difference from the mean [95 %] | held-out macro F1 | accuracy | gender | age |")
    print("|---|---|---|---|---|---|---|")
    for name, oof, oof_labels, eval_ids, eval_labels in rows:
        gain = compare(oof.label, oof_labels, mean, oof.person_id)
        eval_scores = scores(truth[eval_ids].to_numpy(), eval_labels)
        cells = [f"{scores(oof.label, oof_labels)['macro_f1']:.4f}"]
        cells.append(f"{gain.difference:+.4f} [{gain.ci95[0]:+.4f}, {gain.ci95[1]:+.4f}]")
        cells += [f"{eval_scores[key]:.4f}" for key in ("macro_f1", "accuracy", "gender_accuracy", "age_accuracy")]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    run(main)
