"""Flags that several subcommands share: the paths of data and caches, and whether files are locked."""

import argparse
from pathlib import Path

from maskfold.cache_folder import CacheFolder
from maskfold.config.cli import Parser
from maskfold.errors import UserError
from maskfold.fileio import file_in_the_way
from maskfold.locks import enable_locks
from maskfold.places import Places


def add_data_flags(parser: Parser) -> None:
    """Add --data.root and --data.prepared to a subcommand that has no flags for the configuration keys."""
    group = parser.add_argument_group("data")
    group.add_argument("--data.root", type=Path, help="raw data folder (default: the path in the prepared folder)")
    group.add_argument("--data.prepared", type=Path, help="prepared folder (default: the path in the run)")


CACHE_HELP = (
    "folder for decoded photos, predictions and features (default: the prepared folder and the run folder; if these "
    "are not writable, photos and features go into a temporary folder and predictions are not kept)"
)


def add_cache_flags(parser: Parser, cache_help: str | None = CACHE_HELP) -> None:
    """Add --cache and --no-lock. cache_help: help of --cache; None for a subcommand without caches."""
    if cache_help is not None:
        parser.add_argument("--cache", type=Path, metavar="DIR", help=cache_help)
    parser.add_argument(
        "--no-lock",
        action="store_true",
        help="do not lock files, for file systems without locks; make sure that no other process writes them "
        "(default: lock)",
    )


def places_of(args: argparse.Namespace) -> Places:
    """Return the places that the flags of add_data_flags and add_cache_flags give. --no-lock disables locks.

    Raises UserError if the path of --cache or of one of its parents is a file. The folder may be missing or read-only.
    """
    enable_locks(not args.no_lock)
    flags = vars(args)
    cache = flags.get("cache")
    if cache is not None and (file := file_in_the_way(cache)):
        raise UserError(f"--cache {cache}: {file} is not a folder; give a folder")
    return Places(flags.get("data.root"), flags.get("data.prepared"), CacheFolder(cache))
