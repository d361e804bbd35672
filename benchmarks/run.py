#!/usr/bin/env python
"""Compare the speed of maskfold with other pipelines: prints a table, writes results.json and a figure.

Maskfold ("ours") and the others ("theirs") are measured in turns, and their medians are compared. Uses a GPU if there
is one, else the CPU. Takes less than 8 minutes on two idle cores with the default data; prints the seconds and the
budget of each group.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import torch
from measure import Result, table

from maskfold.config.cli import run as run_main
from maskfold.fileio import write_json
from maskfold.synthetic.demo_data import make_demo

HERE = Path(__file__).parent
# {group: seconds that it may take on two idle cores with the default data and 3 repeats}. Together with the data
# (rendered and prepared) they stay below 8 minutes.
GROUPS = {"store": 10, "loader": 80, "training": 50, "inference": 90, "startup": 110, "memory": 65}
DATA_SECONDS, NUM_PEOPLE, NUM_EVAL_PEOPLE = 45, 150, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=f"raw data folder (default: {NUM_PEOPLE} synthetic people)")
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups to measure (default: all)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="number of measurements of each function (default: 3)")
    parser.add_argument(
        "--backbone", default="tf_efficientnet_lite0", help="name of a timm model (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=HERE / "results.json", help="file to write (default: benchmarks/results.json)"
    )
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        data, start = args.data, time.monotonic()
        if data is None:
            data = Path(scratch) / "synthetic"
            make_demo(data, NUM_PEOPLE, NUM_EVAL_PEOPLE, seed=0)
            print(f"data: {time.monotonic() - start:.0f} s (budget {DATA_SECONDS} s)", file=sys.stderr)
        results: dict[str, Result] = {}
        if set(args.only) == set(GROUPS):
            args.out.unlink(missing_ok=True)
        for group in args.only:
            # Each group is imported only when it is measured, because the packages of another group may be missing.
            module = __import__(group)
            print(f"measuring: {group}", file=sys.stderr, flush=True)
            group_start = time.monotonic()
            results |= module.measure(data, Path(scratch), args.backbone, args.repeats)
            seconds = time.monotonic() - group_start
            print(f"{group}: {seconds:.0f} s (budget {GROUPS[group]} s)", file=sys.stderr, flush=True)
            # The file is written after each group, so that an error in the next group loses nothing.
            earlier = json.loads(args.out.read_text()) if args.out.exists() else {}
            write_json(args.out, earlier | {name: result.as_dict() for name, result in results.items()})
    print(f"all groups and the data: {time.monotonic() - start:.0f} s", file=sys.stderr)
    print(table(results))
    from figure import draw

    draw(json.loads(args.out.read_text()), args.out.with_name("results.png"), machine())


def machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU cores"
    return f"{device}, {platform.system()}, torch {torch.__version__.partition('+')[0]}, {date.today()}"


if __name__ == "__main__":
    run_main(main)
