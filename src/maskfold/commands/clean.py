"""List the disk space that runs and prepared folders use, and delete the kinds of files that the flags name.

Without flags nothing is deleted. Files that can't be made again, such as finished runs and the weights of finished
folds, are deleted only with --yes. Runs that are being trained are left alone, and symbolic links are not followed.
"""

from pathlib import Path

from maskfold.config.cli import Parser
from maskfold.config.place_flags import add_cache_flags, places_of
from maskfold.runs.disk_kinds import KINDS, WHOLE_RUN


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "folders",
        type=Path,
        nargs="*",
        help="run folders, names under runs/ or prepared folders (default: all runs, and the prepared folders in "
        "data/prepared or used by a run)",
    )
    for kind, meaning in KINDS.items():
        parser.add_argument(f"--{kind}", action="store_true", help=f"delete {meaning} (default: no)")
    parser.add_argument("--runs", action="store_true", help="delete the named runs themselves (default: no)")
    parser.add_argument("--yes", action="store_true", help="also delete what can't be made again (default: no)")
    add_cache_flags(
        parser, "also list or clean this folder, which you gave as --cache to other commands (default: none)"
    )
    args = parser.parse_args()
    cache_folder = places_of(args).cache.folder
    kinds = [kind for kind in (*KINDS, WHOLE_RUN) if getattr(args, kind)]
    if args.runs and not args.folders:
        parser.error("--runs deletes whole runs; name them")
    if args.yes and not kinds:
        parser.error("--yes has no effect alone; add a flag that names what to delete, such as --caches")

    from maskfold.evaluation.disk_table import print_disk_usage, size_text
    from maskfold.runs.disk_cleanup import delete
    from maskfold.runs.disk_folders import list_folders

    if cache_folder is not None and not cache_folder.is_dir():
        parser.error(
            f"--cache {cache_folder}: no such folder; give the folder that you used as --cache in other commands"
        )
    folders, notes = list_folders(args.folders, cache_folder)
    for note in notes:
        print(f"note: {note}")
    if not kinds:
        print_disk_usage(folders)
        return
    cleanup = delete(folders, kinds, args.yes)
    for entry in cleanup.deleted:
        print(f"deleted {size_text(entry.size):>9}  {entry.path}")
    for line in cleanup.skipped:
        print(f"note: {line}")
    print(f"freed: {size_text(cleanup.size)}")
    cleanup.raise_errors()
