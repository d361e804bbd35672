"""Write the report of a run as one HTML page: scores, learning curves, confusion matrices, errors, configuration.

With several runs, write a page for each run and a page that compares the others with the first. The pages need no
network. They contain photos of the data, so share them only where you may share the data.
"""

from pathlib import Path

from maskfold.config.cli import Parser
from maskfold.config.place_flags import add_cache_flags, add_data_flags, places_of


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or names under runs/ (default: none)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE|DIR",
        help="file for the page of one run or for the comparison of several runs, or folder for all pages (default: "
        "report.html in each run, comparison.html in the first)",
    )
    add_data_flags(parser)
    add_cache_flags(parser)
    args = parser.parse_args()
    places = places_of(args)

    from maskfold.report.comparison_page import COMPARISON_FILE, write_comparison
    from maskfold.report.run_report import REPORT_FILE, write_report
    from maskfold.runs.run_folder import RunFolder, check_distinct_names, find_run

    runs = [RunFolder(find_run(run), places) for run in args.runs]
    folder = None if args.out is None or args.out.suffix == ".html" else args.out
    if len(runs) > 1 and folder is not None:
        check_distinct_names(runs, "--out", [COMPARISON_FILE.removesuffix(".html")])
    for run in runs:
        if len(runs) == 1:
            path = args.out if folder is None else folder / REPORT_FILE
        else:
            path = None if folder is None else folder / f"{run.name}.html"
        print(f"report: {write_report(run, path)}")
    if len(runs) > 1:
        path = args.out if folder is None else folder / COMPARISON_FILE
        print(f"comparison: {write_comparison(runs, path or runs[0].folder / COMPARISON_FILE)}")
