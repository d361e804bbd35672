"""Find the finished models that may label eval photos for a part: those not trained on its validation people."""

from collections.abc import Sequence
from pathlib import Path

from maskfold.config.experiment import Config, selects_on_validation
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.fileio import read_json
from maskfold.json_record import JsonRecord, check_record
from maskfold.models.tta import canonical_views
from maskfold.runs.run_folder import FULL, RunFolder, find_run, fold_name

# File in the folder of a part that was trained on pseudo-labels: the models that predicted the labels.
SOURCES_FILE = "pseudo.json"
# A run and the name of one of its parts.
Source = tuple[RunFolder, str]


class SourceModel(JsonRecord):
    """A model that labelled eval photos."""

    part: str


class Sources(JsonRecord):
    """The keys of pseudo.json that are read."""

    sources: list[SourceModel]


def read_source_parts(path: Path, fix: str) -> list[str]:
    """Return the part of each model in pseudo.json. Raises UserError with `fix` if the file is missing or damaged."""
    record = read_json(path, fix)
    check_record(path, record, Sources, fix)
    return [model["part"] for model in record["sources"]]


def check_pseudo(run: RunFolder, config: Config, prepared: Prepared, parts: Sequence[str]) -> None:
    """Raise UserError if one of these parts can't get its pseudo-labels."""
    if not config.pseudo.runs:
        return
    canonical_views(config.pseudo.views, "pseudo.views")
    if prepared.evaluation is None:
        raise UserError(
            f"pseudo.runs: {prepared.meta['eval']}: the data has no eval set to label; add it and prepare the data "
            "again, or remove pseudo.runs"
        )
    for part in parts:
        find_sources(run, config, prepared, part)


def find_sources(run: RunFolder, config: Config, prepared: Prepared, part: str) -> list[Source]:
    """Return (run, part) of each model that labels eval photos for a part's training.

    For a fold these are the models of the same fold; for the refit, which has no validation photos, those of all folds.
    Raises UserError if a run is missing, unfinished or `run` itself, has other photos, labels or folds than `prepared`,
    was selected on its own validation folds, or was trained on pseudo-labels of another fold's models.
    """
    sources = []
    for name in dict.fromkeys(config.pseudo.runs):
        source = RunFolder(find_run(Path(name)))
        if source.folder.resolve() == run.folder.resolve():
            raise UserError(f"pseudo.runs: {name} is the run that is being trained; name other, finished runs")
        if source.provenance["identity"] != prepared.identity:
            raise UserError(
                f"pseudo.runs: {source.folder} was not trained on the photos, labels and folds of {prepared.folder}, "
                "so its models may have been trained on people of a validation fold; name runs on the same folds"
            )
        if selects_on_validation(source.config):
            raise UserError(
                f"pseudo.runs: {source.folder} was selected on its own validation folds (run.keep, optim.early_stop or "
                "optim.schedule plateau), so its pseudo-labels depend on the true labels of those folds; name a run "
                "that keeps the last epoch"
            )
        source_parts = [fold_name(fold) for fold in source.finished_folds] if part == FULL else [part]
        if not source_parts:
            raise UserError(f"pseudo.runs: {source.folder} has no finished fold; train it first")
        for source_part in source_parts:
            _check_finished(source, source_part)
            _check_ancestors(source, source_part)
        sources += [(source, source_part) for source_part in source_parts]
    return sources


def _check_finished(source: RunFolder, part: str) -> None:
    """Raise UserError if a model is not trained, or if its weights are missing."""
    if not source.finished(part):
        raise UserError(f"pseudo.runs: {source.folder} has no finished {part}; train it first")
    if not (path := source.weights_path(part)).exists():
        raise UserError(f"pseudo.runs: {path}: not found; delete {path.parent} and train {part} again")


def _check_ancestors(source: RunFolder, part: str) -> None:
    """Check that a model was not trained on pseudo-labels of another fold's models.

    Raises UserError if it was, or if its pseudo.json is missing or damaged.
    """
    if not source.config.pseudo.runs:
        return
    fix = f"this file records which models labelled photos for {part}; train {source.folder} again"
    parts = read_source_parts(source.part_dir(part) / SOURCES_FILE, fix)
    other_parts = [other for other in parts if other != part]
    if other_parts:
        raise UserError(
            f"pseudo.runs: {source.folder}: {part} was itself trained on pseudo-labels of {other_parts[0]}, whose "
            f"model was trained on the validation people of {part}; name another run"
        )
