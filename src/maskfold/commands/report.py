"""Write the report of a run as one HTML page: scores, learning curves, confusion matrices, errors, configuration.

With several runs, writes a page for each and one that compares them with the first. The pages need no network. They
contain photos of the data, so share them only where you may share the data.
"""

from pathlib import Path

from maskfold.config.cli import Parser


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or names under runs/ (default: none)")
    parser.add_argument(
        "--out", type=Path, help="file for the comparison of several runs (default: comparison.html in the first run)"
    )
    args = parser.parse_args()
    if args.out and len(args.runs) < 2:
        parser.error("--out applies to the comparison of several runs; give more runs, or remove it")

    from maskfold.report.comparison_page import COMPARISON_FILE, write_comparison
    from maskfold.report.run_report import write_report
    from maskfold.runs.run_folder import RunFolder, find_run

    runs = [RunFolder(find_run(run)) for run in args.runs]
    for run in runs:
        print(f"report: {write_report(run)}")
    if len(runs) > 1:
        print(f"comparison: {write_comparison(runs, args.out or runs[0].folder / COMPARISON_FILE)}")
