#!/usr/bin/env python
"""Blend runs into a submission: their fold models' probabilities, averaged over folds, views and runs."""

from pathlib import Path

from maskfold.cli import Parser, run


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or their names")
    parser.add_argument(
        "--tta", nargs="+", default=["none"], metavar="{none,hflip}", help="views to average (default: none)"
    )
    parser.add_argument("--out", type=Path, help="the CSV to write (default: submissions/<runs>.csv)")
    args = parser.parse_args()

    from maskfold.analysis.tables import interval
    from maskfold.inference.submission import make_submission, submissions_root
    from maskfold.training.runs import RunFolder, find_run

    runs = [RunFolder(find_run(given)) for given in args.runs]
    out = args.out or submissions_root() / f"{'+'.join(member.name for member in runs)}.csv"
    manifest = make_submission(runs, args.tta, out)
    expected = manifest["expected"]
    print(f"out-of-fold macro F1 of this blend {expected['macro_f1']:.4f}, 95 % {interval(expected['macro_f1_ci95'])}")
    print(f"expected on the board: board95 {interval(expected['board95'])}, half {interval(expected['board_half95'])}")
    print(f"submission: {out} (manifest: {out.with_suffix('.json')})")


if __name__ == "__main__":
    run(main)
