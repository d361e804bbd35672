"""Flags that several subcommands share: the paths of data and caches, and whether files are locked."""

import argparse
from pathlib import Path

from maskfold.cache_folder import CacheFolder
from maskfold.config.cli import Parser
from maskfold.fileio import enable_locks
from maskfold.places import Places


def add_data_flags(parser: Parser) -> None:
    """Add --data.root and --data.prepared to a subcommand that has no flags for the configuration keys."""
    group = parser.add_argument_group("data")
    group.add_argument("--data.root", type=Path, help="raw data folder (default: the path in the prepared folder)")
    group.add_argument("--data.prepared", type=Path, help="prepared folder (default: the path in the run)")


def add_cache_flags(parser: Parser, with_cache: bool = True) -> None:
    """Add --cache and --no-lock."""
    if with_cache:
        parser.add_argument(
            "--cache",
            type=Path,
            metavar="DIR",
            help="folder for decoded photos, predictions and features (default: the prepared folder and the run; if "
            "they cannot be written, a temporary folder, and predictions are not kept)",
        )
    parser.add_argument(
        "--no-lock",
        action="store_true",
        help="do not lock files, for file systems without locks; make sure that no other process writes them "
        "(default: lock)",
    )


def places_of(args: argparse.Namespace) -> Places:
    """The paths that the flags of add_data_flags and add_cache_flags give. --no-lock turns the locks off."""
    enable_locks(not args.no_lock)
    flags = vars(args)
    return Places(flags.get("data.root"), flags.get("data.prepared"), CacheFolder(flags.get("cache")))
