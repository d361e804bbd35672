#!/usr/bin/env python
"""Score runs out-of-fold, or a submission whose truth is known."""

from pathlib import Path

from maskfold.cli import Parser, run


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="*", help="run folders, or their names")
    parser.add_argument("--submission", type=Path, help="a submission CSV to score (default: none)")
    parser.add_argument("--truth", type=Path, help="the CSV that holds its true answers (default: none)")
    args = parser.parse_args()
    if bool(args.runs) == bool(args.submission) or bool(args.submission) != bool(args.truth):
        parser.error("give runs, or --submission with --truth")

    from maskfold.analysis.ladder import best_rung
    from maskfold.analysis.tables import print_submission_score, print_summary
    from maskfold.training.runs import RunFolder, find_run
    from maskfold.training.summary import summarise

    for run_folder in [RunFolder(find_run(given)) for given in args.runs]:
        print_summary(summarise(run_folder), baseline=best_rung(run_folder))
    if args.submission:
        print_submission_score(args.submission, args.truth)


if __name__ == "__main__":
    run(main)
