"""List the submissions on record with their expected and leaderboard scores, the highest expected score first.

With --final K, choose the K final submissions for the private leaderboard, where only the best of them counts.
"""

from pathlib import Path

from maskfold.config.cli import Parser


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--submissions",
        type=Path,
        metavar="DIR",
        help="folder of the submissions and their index.csv (default: submissions, or SM_OUTPUT_DATA_DIR)",
    )
    parser.add_argument(
        "--final",
        type=int,
        metavar="K",
        help="choose the K final submissions for the private leaderboard, usually 2 (default: none)",
    )
    args = parser.parse_args()
    if args.final is not None and args.final < 1:
        parser.error(f"--final {args.final} is not valid; use at least 1")

    from maskfold.evaluation.submission_tables import print_final_choice, print_submissions
    from maskfold.inference.submission_index import submissions_root

    folder = args.submissions or submissions_root()
    if args.final is None:
        print_submissions(folder)
    else:
        print_final_choice(folder, args.final)
