"""Prepare the data, train, evaluate, submit and report: configuration -> run, submission and report.

Each stage does what prepare.py, train.py, evaluate.py, submit.py and report.py do. Stages whose results exist already
are skipped. Rerun the command to resume it after an interruption.

Every configuration key is also a flag: --section.key VALUE overrides the file.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from maskfold.config.cli import Parser, add_config_flags, config_overrides
from maskfold.config.ensemble_flags import add_tta_flag
from maskfold.config.place_flags import add_cache_flags, places_of
from maskfold.environment import launched_processes
from maskfold.errors import UserError
from maskfold.places import Places

if TYPE_CHECKING:
    from maskfold.config.experiment import Data


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path, help="configuration of the experiment, such as configs/demo.yaml")
    parser.add_argument("--folds", type=int, nargs="+", help="numbers of the folds to train (default: all)")
    parser.add_argument(
        "--refit", action="store_true", help="also train a model on all people, into full/ (default: no)"
    )
    parser.add_argument("--name", help="name of the run (default: the name of the file)")
    add_tta_flag(parser, default=["none"])
    parser.add_argument("--out", type=Path, help="submission CSV to write (default: submissions/<run>.csv)")
    parser.add_argument(
        "--truth", type=Path, help="CSV of the true labels (ImageID,ans), to score the submission (default: none)"
    )
    add_cache_flags(parser)
    add_config_flags(parser)
    args = parser.parse_args()
    cache = places_of(args).cache
    if args.truth is not None and not args.truth.is_file():
        parser.error(f"--truth {args.truth}: no such file; give the CSV of the true labels")
    if launched_processes() > 1:
        raise UserError("pipeline.py runs in one process; train with torchrun and train.py first, then run it alone")

    from maskfold.commands.evaluate import run_evaluate, score_submission
    from maskfold.commands.report import run_report
    from maskfold.commands.submit import BlendOptions, run_submit
    from maskfold.commands.train import run_train
    from maskfold.config.yaml_file import load_config
    from maskfold.inference.submission_index import submissions_root
    from maskfold.models.tta import canonical_views
    from maskfold.training.fold_job import TrainRequest, check_request, requested_run

    config = load_config(args.file, config_overrides(args))
    places = Places(config.data.root, config.data.prepared, cache)
    name = args.file.stem if args.name is None else args.name
    request = TrainRequest(args.folds, args.refit, cache=cache)
    # Check the flags of the later stages now, because training may take hours.
    check_request(config, request)
    requested_run(name, request)
    canonical_views(args.tta, "--tta")
    if args.out is not None:
        _check_new(args.out)
    has_eval_set = _prepare(config.data)
    out = args.out or submissions_root() / f"{name}.csv"
    if has_eval_set:
        _check_new(out)
    for flag, path in (("--out", args.out), ("--truth", args.truth)):
        if path is not None and not has_eval_set:
            raise UserError(f"{flag}: the data has no eval set; remove {flag}, or use data with an eval set")
    run = run_train(config, name, request)
    run_evaluate([run], places)
    if has_eval_set:
        run_submit([run], places, out, BlendOptions(args.tta))
        if args.truth is not None:
            score_submission(out, args.truth)
    else:
        print("submission: none, because the data has no eval set")
    run_report([run], places)


def _check_new(out: Path) -> None:
    """Check that a submission can be written. An existing one may be up to date and on a read-only disk."""
    from maskfold.inference.submission_csv import check_out

    if out.suffix != ".csv" or not out.is_file():
        check_out(out)


def _prepare(data: "Data") -> bool:
    """Prepare the data, unless an existing prepared folder is used as it is; return whether there is an eval set."""
    from maskfold.commands.prepare import run_prepare
    from maskfold.data.corrections import check_corrections
    from maskfold.data.images_table import FOLDS_FILE, META_FILE, load_prepared, read_meta
    from maskfold.data.prepared_folder import PrepareOptions
    from maskfold.data.raw_layout import default_folder, find_layout

    if data.root is None and data.prepared is not None and (data.prepared / META_FILE).exists():
        folder = data.prepared
        print(f"prepared: {folder} is used as it is, because no raw data folder is given")
    else:
        folder = data.prepared or default_folder(find_layout(data.root))
        meta = read_meta(folder) if (folder / META_FILE).exists() else {}
        if meta.get("skipped") or (meta.get("corrections") and data.corrections is None):
            # The folder was prepared with flags of prepare.py that are not in the configuration.
            print(f"prepared: {folder} is kept, because it has corrections or lacks photos; prepare.py can change it")
        else:
            if meta and data.corrections is not None:
                check_corrections(load_prepared(folder), data.corrections)
            # An existing folds.csv is kept, whatever the configuration says. Other runs may use the folder, so only
            # prepare.py changes its content.
            folds = None if (folder / FOLDS_FILE).exists() else data.folds
            options = PrepareOptions(folds, data.fold_seed, data.corrections, may_change=False)
            run_prepare(data.root, folder, options, "--data.prepared")
    return bool(read_meta(folder)["counts"].get("eval_images"))
