"""Score and compare runs by their out-of-fold predictions, or score a submission against true labels.

Several runs are compared with the first one. If they are repeats of one experiment, which differ only in the seed or
the folds, their mean score, its spread over repeats, its interval over people and seeds, and an estimate of the gain
from averaging the fold models are printed too.
"""

from pathlib import Path

from maskfold.config.cli import Parser
from maskfold.config.place_flags import add_cache_flags, add_data_flags, places_of


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="*", help="run folders, or names under runs/")
    parser.add_argument(
        "--corrections", type=Path, help="also score the runs with this CSV of label corrections (default: none)"
    )
    parser.add_argument(
        "--submission", type=Path, help="submission CSV to score, together with --truth (default: none)"
    )
    parser.add_argument(
        "--truth", type=Path, help="CSV of the true labels (ImageID,ans) of --submission (default: none)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the reliability diagram (default: the run's folder)"
    )
    add_data_flags(parser)
    add_cache_flags(parser)
    args = parser.parse_args()
    places = places_of(args)
    if bool(args.runs) == bool(args.submission) or bool(args.submission) != bool(args.truth):
        parser.error("give runs, or --submission with --truth")
    if args.corrections and args.submission:
        parser.error("--corrections applies to runs only; remove it")

    from maskfold.evaluation.score_tables import print_submission_score

    if args.submission:
        print_submission_score(args.submission, args.truth)
        return
    from maskfold.evaluation.score_runs import evaluate
    from maskfold.runs.run_folder import RunFolder, find_run

    evaluate([RunFolder(find_run(run), places) for run in args.runs], args.corrections, args.out)
