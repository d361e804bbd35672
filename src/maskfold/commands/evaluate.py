"""Score and compare runs by their out-of-fold predictions, or score a submission against true labels.

Several runs are compared with the first one. Repeats of one experiment differ only in the seed or the folds. For
repeats, the output also contains their mean score, its spread over repeats, its interval over people and seeds, and an
estimate of the gain from averaging the fold models.
"""

from collections.abc import Sequence
from pathlib import Path

from maskfold.config.cli import Parser
from maskfold.config.place_flags import add_cache_flags, add_data_flags, places_of
from maskfold.places import Places


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
    if args.submission:
        score_submission(args.submission, args.truth)
    else:
        run_evaluate(args.runs, places, args.corrections, args.out)


def score_submission(submission: Path, truth: Path) -> None:
    """Print the score of a submission by the true labels in `truth`."""
    from maskfold.evaluation.score_tables import print_submission_score

    print_submission_score(submission, truth)


def run_evaluate(
    paths: Sequence[Path], places: Places, corrections: Path | None = None, out: Path | None = None
) -> None:
    """Print the scores of runs and compare them. paths: run folders, or names under runs/."""
    from maskfold.evaluation.score_runs import evaluate
    from maskfold.runs.run_folder import RunFolder, find_run

    evaluate([RunFolder(find_run(path), places) for path in paths], corrections, out)
