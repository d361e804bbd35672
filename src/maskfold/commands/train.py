"""Train the folds of an experiment: configuration -> runs/NAME. The same command goes on where it was stopped.

Every key of the configuration is a flag as well: --section.key VALUE overrides the file.
"""

from pathlib import Path

from maskfold.config.cli import Parser, add_config_flags, config_flags
from maskfold.errors import UserError


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path, help="the experiment, a YAML such as configs/demo.yaml")
    parser.add_argument("--folds", type=int, nargs="+", help="folds to train (default: all)")
    parser.add_argument("--refit", action="store_true", help="train on everybody too, into full/ (default: folds only)")
    parser.add_argument("--name", help="run name (default: the file's)")
    parser.add_argument("--fresh", action="store_true", help="delete the run first (default: go on with it)")
    parser.add_argument(
        "--parallel-folds", type=int, default=1, metavar="K", help="folds trained at once, a process each (default: 1)"
    )
    parser.add_argument(
        "--stop-after",
        metavar="TIME",
        help="after 8h, 90m or 1h30m stop, save and exit 0; rerun the command to resume (default: never)",
    )
    add_config_flags(parser)
    args = parser.parse_args()

    from maskfold.config.config_file import load_config

    if args.parallel_folds < 1:
        raise UserError(f"--parallel-folds {args.parallel_folds}: at least 1 is expected")
    from maskfold.time_left import parse_duration

    stop_after = None if args.stop_after is None else parse_duration(args.stop_after, "--stop-after")
    config = load_config(args.file, config_flags(args))
    from maskfold.evaluation.score_tables import print_summary
    from maskfold.training.fit import fit_run

    trained, summary = fit_run(
        config,
        args.file.stem if args.name is None else args.name,
        args.folds,
        args.refit,
        args.fresh,
        args.parallel_folds,
        stop_after,
    )
    if summary is not None:
        print_summary(summary)
        print(f"run: {trained.folder}")
