"""Flags of the subcommands that predict with finished runs: the TTA views, and where the runs of a manifest are."""

from pathlib import Path

from maskfold.config.cli import Parser


def add_tta_flag(parser: Parser, default: list[str] | None = None) -> None:
    """Add --tta. default: its value if it is not given; None lets the subcommand see that it was not given."""
    parser.add_argument(
        "--tta",
        nargs="+",
        default=default,
        metavar="VIEW",
        help="TTA views to average, such as none hflip (default: none)",
    )


def add_runs_folder_flag(parser: Parser) -> None:
    """Add --runs, the folder in which the runs of --from are looked up."""
    parser.add_argument(
        "--runs",
        dest="runs_folder",
        type=Path,
        metavar="DIR",
        help="folder that holds the runs for --from (default: the paths in the manifest, or runs/)",
    )
