"""Score runs out-of-fold, compare them, or score a submission whose truth is known.

Several runs are compared with the first. Runs of one experiment that differ in seed or folds also tell what the mean of
the fold models adds over one of them.
"""

from pathlib import Path

from maskfold.config.cli import Parser


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="*", help="run folders, or their names")
    parser.add_argument(
        "--corrections", type=Path, help="a corrections CSV: what it does to the scores (default: none)"
    )
    parser.add_argument("--submission", type=Path, help="a submission CSV to score (default: none)")
    parser.add_argument("--truth", type=Path, help="the CSV that holds its true answers (default: none)")
    args = parser.parse_args()
    if bool(args.runs) == bool(args.submission) or bool(args.submission) != bool(args.truth):
        parser.error("give runs, or --submission with --truth")
    if args.corrections and args.submission:
        parser.error("--corrections: is for runs")

    from maskfold.evaluation.score_tables import print_submission_score

    if args.submission:
        print_submission_score(args.submission, args.truth)
        return
    from maskfold.evaluation.score_runs import evaluate
    from maskfold.runs.run_folder import RunFolder, find_run

    evaluate([RunFolder(find_run(given)) for given in args.runs], args.corrections)
