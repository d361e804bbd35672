"""Check the raw data, list its photos and labels, and make the folds: raw data folder -> prepared folder.

All faults of the data are reported in one error, before anything is written. An existing folds.csv is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskfold.config.cli import Parser
from maskfold.config.place_flags import add_cache_flags, places_of
from maskfold.errors import UserError

if TYPE_CHECKING:
    from maskfold.data.prepared_folder import PrepareOptions


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", type=Path, help="raw data folder (default: the folder in SM_CHANNEL_TRAIN)")
    parser.add_argument("--out", type=Path, help="prepared folder (default: data/prepared/<name of the data folder>)")
    parser.add_argument("--folds", type=int, help="number of folds, if there is no folds.csv (default: 5)")
    parser.add_argument("--seed", type=int, help="seed of the folds, if there is no folds.csv (default: 42)")
    parser.add_argument("--corrections", type=Path, help="CSV of label corrections (default: none)")
    parser.add_argument(
        "--skip-damaged",
        action="store_true",
        dest="skip_damaged",
        help="leave out unreadable eval photos and people with an unreadable photo, and list them (default: stop with "
        "an error)",
    )
    add_cache_flags(parser, cache_help=None)
    args = parser.parse_args()
    places_of(args)
    for flag, value, minimum in (("--folds", args.folds, 2), ("--seed", args.seed, 0)):
        if value is not None and value < minimum:
            raise UserError(f"{flag} {value} is not valid; use at least {minimum}")
    from maskfold.data.prepared_folder import PrepareOptions

    options = PrepareOptions(args.folds, args.seed, args.corrections, args.skip_damaged)
    run_prepare(args.data, args.out, options)


def run_prepare(data: Path | None, out: Path | None, options: PrepareOptions, out_flag: str = "--out") -> None:
    """Prepare the raw data folder `data`, and print a description of the prepared folder.

    out_flag: the flag that chooses `out`.
    """
    from maskfold.data.images_table import META_FILE, describe
    from maskfold.data.prepared_folder import prepare
    from maskfold.data.raw_layout import default_folder, find_layout
    from maskfold.fileio import check_output

    layout = find_layout(data)
    folder = out or default_folder(layout)
    if not (folder / META_FILE).exists():
        check_output(folder, out_flag)
    prepared = prepare(layout, folder, options)
    print("\n".join(describe(prepared)), flush=True)
