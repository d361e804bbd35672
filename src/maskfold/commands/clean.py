"""List what runs and prepared folders take on disk, and delete what is asked for.

Without flags nothing is deleted. What can't be made again, such as the weights of finished folds and finished runs, is
deleted only with --yes. Runs in training are left alone, and symbolic links are not followed.
"""

from pathlib import Path

from maskfold.config.cli import Parser
from maskfold.config.place_flags import add_cache_flags, places_of
from maskfold.runs.disk_kinds import KINDS


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
    add_cache_flags(parser, "also list or clean this folder of --cache (default: none)")
    args = parser.parse_args()
    places_of(args)
    kinds = [kind for kind in KINDS if getattr(args, kind)]
    if args.runs and not args.folders:
        parser.error("--runs deletes whole runs; name them")
    if args.yes and not kinds and not args.runs:
        parser.error("--yes has no effect alone; say what to delete")

    from maskfold.evaluation.disk_table import print_disk_usage, size_text
    from maskfold.runs.disk_cleanup import delete
    from maskfold.runs.disk_usage import cache_usage, find_folders, prepared_usage, run_usage
    from maskfold.runs.run_folder import RunFolder

    runs, prepared, notes = find_folders(args.folders)
    folders = [*(run_usage(RunFolder(run)) for run in runs), *map(prepared_usage, prepared)]
    if args.cache is not None:
        if not args.cache.is_dir():
            parser.error(f"--cache {args.cache}: no such folder; give the folder of other verbs' --cache")
        folders.append(cache_usage(args.cache))
    for note in notes:
        print(f"note: {note}")
    if not kinds and not args.runs:
        print_disk_usage(folders)
        return
    cleanup = delete(folders, kinds, args.runs, args.yes)
    for entry in cleanup.deleted:
        print(f"deleted {size_text(entry.size):>9}  {entry.path}")
    for line in cleanup.skipped:
        print(f"note: {line}")
    print(f"freed: {size_text(cleanup.size)}")
