"""Train the folds of an experiment: configuration -> runs/NAME. Rerun the command to resume a stopped run.

With --seeds 1 2 3 the experiment is trained once per seed, as the runs NAME-s1, NAME-s2 and NAME-s3.

Every configuration key is also a flag: --section.key VALUE overrides the file.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from maskfold.config.cli import Parser, add_config_flags, config_overrides
from maskfold.config.place_flags import add_cache_flags, places_of
from maskfold.errors import UserError
from maskfold.places import absolute

if TYPE_CHECKING:
    from maskfold.config.experiment import Config
    from maskfold.runs.run_folder import RunFolder
    from maskfold.training.fold_job import TrainRequest


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path, help="configuration of the experiment, such as configs/demo.yaml")
    parser.add_argument("--folds", type=int, nargs="+", help="numbers of the folds to train (default: all)")
    parser.add_argument(
        "--refit", action="store_true", help="also train a model on all people, into full/ (default: no)"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        metavar="SEED",
        help="train one run per seed, one after another, named NAME-s<seed>, and evaluate them together (default: one "
        "run with the key seed)",
    )
    parser.add_argument("--name", help="name of the run (default: the name of the file)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder, instead of --name (default: runs/NAME)")
    parser.add_argument(
        "--fresh", action="store_true", help="delete the run first and start again (default: resume it)"
    )
    parser.add_argument(
        "--parallel-folds",
        type=int,
        default=1,
        metavar="K",
        help="number of folds to train at once, each in its own process (default: 1)",
    )
    parser.add_argument(
        "--stop-after",
        metavar="TIME",
        help="time, such as 8h or 1h30m, after which training saves and exits with status 0; rerun the command to "
        "resume (default: never)",
    )
    add_cache_flags(parser)
    add_config_flags(parser)
    args = parser.parse_args()
    cache = places_of(args).cache
    if args.out is not None and args.name is not None:
        parser.error("--out names the run folder, so --name has no effect; give one of them")
    if args.seeds is not None and args.out is not None:
        parser.error("--out is the folder of one run, but --seeds trains several; use --name instead of --out")
    if args.seeds is not None and "seed" in args:
        parser.error("--seed has no effect with --seeds; give one of them")

    from maskfold.config.yaml_file import load_config

    if args.parallel_folds < 1:
        raise UserError(f"--parallel-folds {args.parallel_folds} is not valid; use at least 1")
    _check_seeds(args.seeds or [])
    from maskfold.time_left import parse_duration

    # --stop-after limits the time of the whole command, so the clock starts before the configuration is read.
    deadline = None if args.stop_after is None else time.time() + parse_duration(args.stop_after, "--stop-after")
    config = load_config(args.file, config_overrides(args))
    from maskfold.training.fold_job import TrainRequest
    from maskfold.training.stop_request import StopRequest

    default_name = args.file.stem if args.out is None else absolute(args.out).name
    name = default_name if args.name is None else args.name
    stop = StopRequest(deadline)
    request = TrainRequest(args.folds, args.refit, args.fresh, args.parallel_folds, stop, args.out, cache)
    if args.seeds is None:
        run_train(config, name, request)
    else:
        _train_repeats(config, name, args.seeds, request)


def run_train(config: "Config", name: str, request: "TrainRequest") -> Path:
    """Train the unfinished folds and refit of a run, print its scores, and return its folder."""
    from maskfold.evaluation.finished_run import finished_run

    finished = finished_run(config, name, request)
    if finished is None:
        # Imported only here, because torch and the other imports of training take seconds.
        from maskfold.training.fit import fit_run

        run, summary = fit_run(config, name, request)
    else:
        run, summary = finished
    if summary is not None:
        from maskfold.evaluation.score_tables import print_summary

        print_summary(summary, run.config)
        print(f"run: {run.folder}", flush=True)
    return run.folder


def _train_repeats(config: "Config", name: str, seeds: list[int], request: "TrainRequest") -> None:
    """Train one run per seed, and print the scores of each and of all together."""
    from maskfold.evaluation.repeats import print_repeats, repeat_line
    from maskfold.probabilities import load_predictions

    runs = []
    for run, summary in _results_of_repeats(config, name, seeds, request):
        if summary is not None:
            print(repeat_line(summary, run), flush=True)
            runs.append(run)
    if len(runs) > 1:
        print_repeats(runs, [load_predictions(run.folder / "oof.npz", out_of_fold=True) for run in runs])


def _results_of_repeats(
    config: "Config", name: str, seeds: list[int], request: "TrainRequest"
) -> "Iterator[tuple[RunFolder, dict | None]]":
    """Yield the folder and the summary of each repeat, after its training."""
    from maskfold.evaluation.finished_run import finished_repeats

    finished = finished_repeats(config, name, seeds, request)
    if finished is not None:
        return finished
    # Imported only here, because torch and the other imports of training take seconds.
    from maskfold.training.fit import fit_repeats

    return fit_repeats(config, name, seeds, request)


def _check_seeds(seeds: list[int]) -> None:
    """Raise UserError for seeds that are out of range or given twice."""
    from maskfold.config.field_types import MAX_SEED

    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise UserError(f"--seeds {seed} is not valid; use whole numbers from 0 to {MAX_SEED}")
        if seeds.count(seed) > 1:
            raise UserError(
                f"--seeds: {seed} is given twice, but two runs with the same seed are identical; give each seed once"
            )
