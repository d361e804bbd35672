"""Write a run's report: one HTML page with its scores, curves, confusions, mistakes and configuration.

Several runs get a page each, and one more that compares them with the first. A page holds all it shows and is opened
without a network. It shows photos: it goes where the data may go.
"""

from pathlib import Path

from maskfold.config.cli import Parser


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or their names (default: none)")
    parser.add_argument(
        "--out", type=Path, help="where the comparison of several runs goes (default: comparison.html of the first run)"
    )
    args = parser.parse_args()
    if args.out and len(args.runs) < 2:
        parser.error("--out: is for the comparison of several runs")

    from maskfold.report.comparison_page import FILE, write_comparison
    from maskfold.report.run_report import write_report
    from maskfold.runs.run_folder import RunFolder, find_run

    runs = [RunFolder(find_run(given)) for given in args.runs]
    for each in runs:
        print(f"report: {write_report(each)}")
    if len(runs) > 1:
        print(f"comparison: {write_comparison(runs, args.out or runs[0].folder / FILE)}")
