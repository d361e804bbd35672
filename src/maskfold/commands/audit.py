"""Find wrong labels and duplicate people from the out-of-fold predictions of runs.

Writes into audit/ of the first run: suspects.csv (all people by axis, the most suspect labels first), corrections.csv
(proposed corrections), duplicates.csv (pairs of person ids that may be one person) and audit.html. No label is changed:
review corrections.csv, then apply it with prepare.py --corrections. Several runs are averaged.
"""

from pathlib import Path

from maskfold.config.cli import Parser


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or names under runs/ (default: none)")
    args = parser.parse_args()

    from maskfold.audit.run_audit import audit
    from maskfold.runs.run_folder import RunFolder, find_run

    print(f"audit: {audit([RunFolder(find_run(run)) for run in args.runs])}")
