"""Find wrong labels and duplicate people from the out-of-fold predictions of runs.

Writes four files into audit/ in the first run: suspects.csv (all people by axis, the most suspect labels first),
corrections.csv (proposed corrections), duplicates.csv (pairs of person ids that may be one person) and audit.html. No
label is changed: review corrections.csv, then apply it with prepare.py --corrections. The predictions of several runs
are averaged.
"""

from pathlib import Path

from maskfold.config.cli import Parser
from maskfold.config.place_flags import add_cache_flags, add_data_flags, places_of


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or names under runs/ (default: none)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the audit (default: audit/ in the first run)"
    )
    add_data_flags(parser)
    add_cache_flags(parser)
    args = parser.parse_args()
    places = places_of(args)

    from maskfold.audit.run_audit import audit
    from maskfold.runs.run_folder import RunFolder, find_run

    print(f"audit: {audit([RunFolder(find_run(run), places) for run in args.runs], args.out)}")
