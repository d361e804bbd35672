#!/usr/bin/env python
"""Check and measure maskfold on one GPU in at most 8 minutes, without a network and with synthetic people.

Writes the results after each value: JSON, and a Markdown file beside it. A section that fails or takes too long is
recorded, and the next one runs. From a checkout without an installation: PYTHONPATH=src python benchmarks/gpu.py

Exit status: 0 if all sections ran, also if a target is missed; 1 if a section failed; 2 without a GPU or a package.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from battery.packages import missing_needed

HERE = Path(__file__).parent


def main() -> None:
    from maskfold.errors import UserError, did_you_mean

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: with --tiny (default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="tiny models and data, to test the battery itself")
    parser.add_argument(
        "--only", nargs="+", metavar="SECTION", help="names of sections, as in the results (default: all)"
    )
    parser.add_argument(
        "--minutes", type=float, default=8, help="time for all sections; their budgets grow with it (default: 8)"
    )
    parser.add_argument(
        "--out", type=Path, default=HERE / "gpu.json", help="file to write (default: benchmarks/gpu.json)"
    )
    args = parser.parse_args()
    if args.device == "cpu" and not args.tiny:
        raise UserError("--device cpu: the whole battery takes hours on a CPU; add --tiny to test the battery itself")
    # Imported here, because torch takes seconds to import.
    from battery.context import Context
    from battery.schedule import SECTIONS, default_sections, run_battery

    names = args.only or default_sections(args.tiny)
    if unknown := [name for name in names if name not in SECTIONS]:
        hint = did_you_mean(unknown[0], SECTIONS) or f"; use some of {', '.join(SECTIONS)}"
        raise UserError(f"--only {unknown[0]}: there is no such section{hint}")
    with tempfile.TemporaryDirectory() as scratch:
        context = Context(args.device, args.tiny, Path(scratch))
        results = run_battery(context, names, 60 * args.minutes, args.out)
    print(results.markdown())
    print(f"written: {args.out} and {args.out.with_suffix('.md')}")
    if failed := [section.name for section in results.sections if section.status != "done"]:
        print(f"not done: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    if missing := missing_needed():
        print(f"error: benchmarks/gpu.py: not installed: {', '.join(missing)}; install them first", file=sys.stderr)
        sys.exit(2)
    from maskfold.config.cli import run

    run(main)
