"""Train the folds of an experiment: configuration -> runs/NAME. Rerun the command to resume a stopped run.

Every configuration key is also a flag: --section.key VALUE overrides the file.
"""

from pathlib import Path

from maskfold.config.cli import Parser, add_config_flags, config_overrides
from maskfold.config.place_flags import add_cache_flags, places_of
from maskfold.errors import UserError
from maskfold.places import absolute


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path, help="configuration of the experiment, such as configs/demo.yaml")
    parser.add_argument("--folds", type=int, nargs="+", help="numbers of the folds to train (default: all)")
    parser.add_argument(
        "--refit", action="store_true", help="also train a model on all people, into full/ (default: no)"
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

    from maskfold.config.yaml_file import load_config

    if args.parallel_folds < 1:
        raise UserError(f"--parallel-folds {args.parallel_folds} is not valid; use at least 1")
    from maskfold.time_left import parse_duration

    stop_after = None if args.stop_after is None else parse_duration(args.stop_after, "--stop-after")
    config = load_config(args.file, config_overrides(args))
    from maskfold.evaluation.score_tables import print_summary
    from maskfold.training.fit import TrainRequest, fit_run

    default_name = args.file.stem if args.out is None else absolute(args.out).name
    request = TrainRequest(args.folds, args.refit, args.fresh, args.parallel_folds, stop_after, args.out, cache)
    trained, summary = fit_run(config, default_name if args.name is None else args.name, request)
    if summary is not None:
        print_summary(summary, trained.config)
        print(f"run: {trained.folder}")
