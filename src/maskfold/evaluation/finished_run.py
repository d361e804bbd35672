"""Find out whether a run is finished and unchanged, without importing torch or pandas.

For such a run, train.py only shows the results.
"""

import csv
import os
from collections.abc import Iterator, Sequence

from maskfold.config.experiment import Config, Data, fixed_values, replaced
from maskfold.data.dataset_record import data_identity
from maskfold.data.images_table import EVAL_FILE, FOLDS_FILE, IMAGES_FILE, META_FILE, read_fold_by_person, read_meta
from maskfold.data.raw_layout import default_folder, find_layout
from maskfold.data.same_data import is_recorded_folder
from maskfold.errors import UserError
from maskfold.fileio import sha256
from maskfold.progress import report
from maskfold.runs.provenance import changed_weights
from maskfold.runs.resolved_config import with_recorded_values
from maskfold.runs.run_folder import FULL, RunFolder, fold_name, runs_root
from maskfold.runs.summary import written_summary
from maskfold.training.fold_job import TrainRequest, check_request, print_finished, print_offline_runs, repeat_configs


class _OtherDataError(Exception):
    """The prepared folder is damaged, or was not made from this raw data folder with these corrections."""


def finished_run(config: Config, name: str, request: TrainRequest) -> tuple[RunFolder, dict] | None:
    """Return and print what fit_run would return and print for a run that has nothing left to train or to write.

    Returns None for all other runs, and if anything is unusual or wrong. train.py then calls fit_run, which finishes
    the run or reports the error.
    """
    finished = _find_finished(config, name, request)
    return None if finished is None else _show(*finished)


def finished_repeats(
    config: Config, name: str, seeds: Sequence[int], request: TrainRequest
) -> Iterator[tuple[RunFolder, dict]] | None:
    """Yield and print what fit_repeats would yield and print for repeats that all have nothing left to train.

    Returns None in all other cases, before anything is printed: fit_repeats has the checks and the messages.
    """
    all_finished = []
    for run_name, seeded in repeat_configs(config, name, seeds).items():
        if (finished := _find_finished(seeded, run_name, request)) is None:
            return None
        all_finished.append(finished)
    return _show_repeats(all_finished)


def _show_repeats(all_finished: list[tuple[RunFolder, dict, list[str]]]) -> Iterator[tuple[RunFolder, dict]]:
    for number, (run, summary, parts) in enumerate(all_finished, 1):
        report(f"run {number} of {len(all_finished)}: {run.name}")
        yield _show(run, summary, parts)


def _show(run: RunFolder, summary: dict, parts: list[str]) -> tuple[RunFolder, dict]:
    print_finished(parts)
    print_offline_runs(run)
    return run, summary


def _find_finished(config: Config, name: str, request: TrainRequest) -> tuple[RunFolder, dict, list[str]] | None:
    """Return a run that has nothing left to train or to write, its summary and its requested parts, else None."""
    run = RunFolder(request.out or runs_root() / name)
    # Under torchrun, all processes must take the same branch, so all of them call fit_run.
    if request.fresh or "LOCAL_RANK" in os.environ or not run.started:
        return None
    try:
        parts = _finished_parts(run, config, request)
        summary = None if parts is None else written_summary(run)
    except (_OtherDataError, UserError, OSError, KeyError, TypeError, ValueError, csv.Error):
        return None
    return None if parts is None or summary is None else (run, summary, parts)


def _finished_parts(run: RunFolder, config: Config, request: TrainRequest) -> list[str] | None:
    """Return the requested parts if all are finished and the configuration and data are unchanged, else None.

    A part is a fold or the refit.
    """
    check_request(config, request)
    run.check_unedited()
    meta, fold_by_person = _read_data(config.data)
    num_folds, recorded = len(set(fold_by_person.values())), run.config
    folds = range(num_folds) if request.folds is None else sorted(set(request.folds))
    parts = [fold_name(fold) for fold in folds] + [FULL] * request.refit
    seed = config.data.fold_seed if meta["fold_seed"] is None else meta["fold_seed"]
    resolved = with_recorded_values(replaced(config, data={"folds": num_folds, "fold_seed": seed}), recorded)
    if config.run.device == "cuda" or "fp16" in (resolved.run.precision, resolved.run.predict_precision):
        # fit_run raises an error if there is no GPU, which only torch knows.
        return None
    unchanged = (
        set(folds) <= set(range(num_folds))
        and run.provenance["identity"] == data_identity(meta["fingerprint"], fold_by_person)
        and fixed_values(resolved) == fixed_values(recorded)
        and not changed_weights(run.provenance, config)
    )
    return parts if unchanged and all(map(run.finished, parts)) else None


def _read_data(data: Data) -> tuple[dict, dict[str, str]]:
    """Read dataset.json and {person_id: fold} of the prepared folder, but not the raw data.

    Raises an error if the folder is missing, damaged, or made from another raw data folder or with other corrections.
    """
    if data.root is None and data.prepared is not None and (data.prepared / META_FILE).exists():
        folder = data.prepared
    else:
        layout = find_layout(data.root)
        folder = data.prepared or default_folder(layout)
        if not is_recorded_folder(folder, layout):
            raise _OtherDataError
    meta = read_meta(folder)
    if data.corrections is not None and (meta["corrections"] or {}).get("sha256") != sha256(data.corrections):
        raise _OtherDataError
    # If a hash is missing or differs, fit_run parses the tables, and its errors name what is damaged. Older versions
    # did not record hashes.
    names, recorded = [IMAGES_FILE, FOLDS_FILE] + [EVAL_FILE] * bool(meta["counts"]["eval_images"]), meta.get("tables")
    if recorded is None or any(recorded.get(name) != sha256(folder / name) for name in names):
        raise _OtherDataError
    return meta, read_fold_by_person(folder)
