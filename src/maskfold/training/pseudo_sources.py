"""Which finished models may label eval photos for a part's training: those that never saw whom it is scored on."""

from collections.abc import Sequence
from pathlib import Path

from maskfold.config.experiment import Config, selects_on_validation
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.fileio import read_json
from maskfold.models.tta import canonical_views
from maskfold.runs.run_folder import FULL, RunFolder, find_run, fold_name

# In the folder of a part that was trained on pseudo-labels: the models that gave them.
SOURCES = "pseudo.json"
Source = tuple[RunFolder, str]


def check_pseudo(run: RunFolder, config: Config, prepared: Prepared, parts: Sequence[str]) -> None:
    """Raises UserError where a part that is to be started can't have its pseudo-labels."""
    if not config.pseudo.runs:
        return
    canonical_views(config.pseudo.views, "pseudo.views")
    if prepared.evaluation is None:
        raise UserError(f"pseudo.runs: {prepared.meta['eval']}: the data has no eval side to label")
    for part in parts:
        find_sources(run, config, prepared, part)


def find_sources(run: RunFolder, config: Config, prepared: Prepared, part: str) -> list[Source]:
    """(run, part) of each model that may label eval photos for a part's training.

    A fold has the models of the same fold; the refit on everybody, which nothing is scored on, those of all folds.
    Raises UserError where a run is missing, unfinished, of other people or folds, or knows the fold's labels.
    """
    found = []
    for given in dict.fromkeys(config.pseudo.runs):
        source = RunFolder(find_run(Path(given)))
        if source.folder.resolve() == run.folder.resolve():
            raise UserError(f"pseudo.runs: {given} is this run itself; name finished ones")
        if source.provenance["identity"] != prepared.identity:
            raise UserError(
                f"pseudo.runs: {source.folder} was trained on other photos, labels or folds than {prepared.folder}: "
                "its models may know people that are to be validated on; name runs on the same folds"
            )
        if selects_on_validation(source.config):
            raise UserError(
                f"pseudo.runs: {source.folder} was selected on its own validation folds (run.keep, optim.early_stop or "
                "optim.schedule plateau), and so would its labels be; name a run that keeps the last epoch"
            )
        wanted = [fold_name(fold) for fold in source.finished_folds] if part == FULL else [part]
        if not wanted or not all(source.finished(name) and source.weights_path(name).exists() for name in wanted):
            raise UserError(f"pseudo.runs: {source.folder} has no finished {part}; train it first")
        for name in wanted:
            _check_ancestors(source, name)
        found += [(source, name) for name in wanted]
    return found


def _check_ancestors(source: RunFolder, part: str) -> None:
    """Raises UserError where a model was trained on labels of another fold's models, or it can't be known."""
    if not source.config.pseudo.runs:
        return
    path = source.part_dir(part) / SOURCES
    held = read_json(path, f"without it nobody knows what {part} was trained on; train {source.folder} anew")
    others = [model["part"] for model in held["sources"] if model["part"] != part]
    if others:
        raise UserError(
            f"pseudo.runs: {source.folder}: {part} was itself trained on pseudo-labels of {others[0]}, whose model "
            f"knows the people that {part} leaves out; name another run"
        )
