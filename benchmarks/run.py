#!/usr/bin/env python
"""Compare the speed of maskfold with other pipelines: prints a table, writes results.json and a figure.

Maskfold ("ours") and the others ("theirs") are measured in turns, and their medians are compared. Uses a GPU if there
is one, else the CPU.
"""

import argparse
import json
import platform
import sys
import tempfile
from datetime import date
from pathlib import Path

import torch
from measure import Result, table

from maskfold.config.cli import run as run_main
from maskfold.fileio import write_json
from maskfold.synthetic.demo_data import make_demo

HERE = Path(__file__).parent
GROUPS = ("store", "loader", "training", "inference", "startup", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="raw data folder (default: 600 synthetic people)")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, help="groups to measure (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="number of measurements of each function (default: 5)")
    parser.add_argument(
        "--backbone", default="tf_efficientnet_lite0", help="name of a timm model (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=HERE / "results.json", help="file to write (default: benchmarks/results.json)"
    )
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        data = args.data
        if data is None:
            data = Path(scratch) / "synthetic"
            make_demo(data, people=600, eval_people=80, seed=0)
        results: dict[str, Result] = {}
        if set(args.only) == set(GROUPS):
            args.out.unlink(missing_ok=True)
        for group in args.only:
            # Each group is imported only when it is measured, because the packages of another group may be missing.
            module = __import__(group)
            print(f"measuring: {group}", file=sys.stderr, flush=True)
            results |= module.measure(data, Path(scratch), args.backbone, args.repeats)
            # The file is written after each group, so that an error in the next group loses nothing.
            earlier = json.loads(args.out.read_text()) if args.out.exists() else {}
            write_json(args.out, earlier | {name: result.as_dict() for name, result in results.items()})
    print(table(results))
    from figure import draw

    draw(json.loads(args.out.read_text()), args.out.with_name("results.png"), machine())


def machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU cores"
    return f"{device}, {platform.system()}, torch {torch.__version__.partition('+')[0]}, {date.today()}"


if __name__ == "__main__":
    run_main(main)
