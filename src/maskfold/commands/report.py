"""Write the report of a run as one HTML page: scores, learning curves, confusion matrices, errors, configuration.

With several runs, write a page for each run and a page that compares the others with the first. The pages need no
network. They contain photos of the data, so share them only where you may share the data.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maskfold.config.cli import Parser
from maskfold.config.place_flags import add_cache_flags, add_data_flags, places_of
from maskfold.places import Places

if TYPE_CHECKING:
    from maskfold.runs.run_folder import RunFolder


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
    run_report(args.runs, places, args.out)


def run_report(paths: Sequence[Path], places: Places, out: Path | None = None) -> None:
    """Write the pages of runs, except pages that are up to date.

    paths: run folders, or names under runs/; out: see --out.
    """
    from maskfold.report.page_record import COMPARISON_FILE, REPORT_FILE
    from maskfold.runs.run_folder import RunFolder, check_distinct_names, find_run

    runs = [RunFolder(find_run(path), places) for path in paths]
    folder = None if out is None or out.suffix == ".html" else out
    if len(runs) > 1 and folder is not None:
        check_distinct_names(runs, "--out", [COMPARISON_FILE.removesuffix(".html")])
    for run in runs:
        if len(runs) == 1:
            path = out if folder is None else folder / REPORT_FILE
        else:
            path = None if folder is None else folder / f"{run.name}.html"
        _write_page([run], path or run.folder / REPORT_FILE)
    if len(runs) > 1:
        path = out if folder is None else folder / COMPARISON_FILE
        _write_page(runs, path or runs[0].folder / COMPARISON_FILE)


def _write_page(runs: "Sequence[RunFolder]", path: Path) -> None:
    """Write the report of a run or the comparison of several runs, unless the page is up to date."""
    from maskfold.inference.unchanged_inputs import report_inputs
    from maskfold.report.page_record import is_current_page

    name = "report" if len(runs) == 1 else "comparison"
    if is_current_page(path, report_inputs(runs)):
        print(f"{name}: {path} is up to date")
        return
    # Imported only here, because matplotlib and torch take seconds to import.
    from maskfold.report.comparison_page import write_comparison
    from maskfold.report.run_report import write_report

    print(f"{name}: {write_report(runs[0], path) if len(runs) == 1 else write_comparison(runs, path)}")
