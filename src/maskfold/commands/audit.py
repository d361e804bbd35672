"""Look for wrong labels and for people who are there twice, by what the models that never saw them say.

Writes suspects.csv (all who were judged, by axis, the most suspect first), corrections.csv (what is proposed),
duplicates.csv and audit.html into audit/ of the run. Nothing is changed: applying the corrections is up to you. Several
runs are asked together.
"""

from pathlib import Path

from maskfold.config.cli import Parser


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or their names (default: none)")
    args = parser.parse_args()

    from maskfold.audit.run_audit import audit
    from maskfold.runs.run_folder import RunFolder, find_run

    print(f"audit: {audit([RunFolder(find_run(given)) for given in args.runs])}")
