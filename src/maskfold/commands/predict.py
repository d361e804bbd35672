"""Predict any photos with one or more runs, or with the runs of a submission (--from).

Writes a CSV with one row per photo: its path, the predicted label, mask, gender and age, and their probabilities. Only
the run folders are needed, not the data. They are not changed, and nothing else is written.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from maskfold.config.cli import Parser
from maskfold.config.ensemble_flags import add_runs_folder_flag, add_tta_flag

if TYPE_CHECKING:
    import numpy as np


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "runs", type=Path, nargs="*", help="run folders, or names under runs/; with --from: the runs of the submission"
    )
    parser.add_argument(
        "--photos",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="photos, folders (searched recursively), or CSV files with a column `path` (default: none)",
    )
    add_tta_flag(parser)
    parser.add_argument(
        "--from",
        dest="manifest",
        type=Path,
        help="use the runs, views, weights, temperatures and factors of this manifest (.json) (default: none)",
    )
    add_runs_folder_flag(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("predictions.csv"), help="CSV to write (default: predictions.csv)"
    )
    args = parser.parse_args()
    if not (args.runs or args.manifest):
        parser.error("give runs, or --from MANIFEST")
    if args.manifest and args.tta:
        parser.error("--tta has no effect with --from, which uses the views of the manifest; remove it")
    if args.runs_folder and (args.runs or not args.manifest):
        parser.error("--runs applies to --from without runs; remove it")

    from maskfold.new_photos.ensemble import load_runs, load_submission
    from maskfold.new_photos.photo_list import list_photos
    from maskfold.new_photos.predictions_csv import check_csv, predict_photos

    check_csv(args.out, args.photos)
    photos = list_photos(args.photos)
    if args.manifest:
        ensemble = load_submission(args.manifest, args.runs, args.runs_folder)
    else:
        ensemble = load_runs(args.runs, args.tta or ["none"])
    counts = predict_photos(ensemble, photos, args.out)
    if counts.num_errors:
        print(
            f"warning: {counts.num_errors:,} of {len(photos):,} photos can't be read; the column error of {args.out} "
            f"says why; the first is {counts.first_error}",
            file=sys.stderr,
        )
    _print_counts(counts.by_label)
    print(f"predictions: {args.out}")


def _print_counts(num_by_label: "np.ndarray") -> None:
    """Print the number of photos of each class; num_by_label: int [18]."""
    from maskfold.evaluation.score_tables import terminal_table, wide_console
    from maskfold.labels import CLASS_NAMES

    table = terminal_table("predicted classes", "class", "label", "photos")
    for label, (name, count) in enumerate(zip(CLASS_NAMES, num_by_label, strict=True)):
        table.add_row(name, str(label), f"{count:,}")
    table.add_section()
    table.add_row("all", "", f"{sum(num_by_label):,}")
    wide_console().print(table)
