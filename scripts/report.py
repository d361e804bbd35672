#!/usr/bin/env python
"""Write a run's report: one HTML page with its scores, curves, confusions, mistakes and configuration.

It holds all it shows and is opened without a network. It shows photos: it goes where the data may go.
"""

from pathlib import Path

from maskfold.cli import Parser, run


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or their names (default: none)")
    args = parser.parse_args()

    from maskfold.analysis.report import write_report
    from maskfold.training.runs import RunFolder, find_run

    for given in args.runs:
        print(f"report: {write_report(RunFolder(find_run(given)))}")


if __name__ == "__main__":
    run(main)
