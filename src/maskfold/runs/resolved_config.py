"""The configuration as it is recorded with a run: values that depend on the data and the device are resolved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskfold.config.experiment import Config, Run, replaced
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.places import recorded_path

if TYPE_CHECKING:
    import torch


def resolve_config(
    config: Config, run_folder: Path, prepared: Prepared, device: torch.device, recorded: Config | None = None
) -> Config:
    """Return the config with the paths of the data, the folds and seed of folds.csv, and precisions instead of auto.

    recorded: the resolved config with which a run was started; its precisions replace `auto` in `config`.
    """
    from maskfold.models.device import pick_precisions

    run_keys = config.run if recorded is None else with_recorded_precisions(config.run, recorded.run)
    precision, predict_precision = pick_precisions(run_keys, device)
    seed = prepared.meta["fold_seed"]
    try:
        root = prepared.root
    except UserError:
        root = Path(prepared.meta["root"])
    return replaced(
        config,
        data={
            "root": recorded_path(root, run_folder, prepared.folder),
            "prepared": recorded_path(prepared.folder, run_folder),
            "folds": prepared.num_folds,
            # The seed is None (unknown) if folds.csv existed before the data was prepared.
            "fold_seed": config.data.fold_seed if seed is None else seed,
        },
        run={"precision": precision, "predict_precision": predict_precision},
    )


def with_recorded_precisions(run_keys: Run, recorded: Run) -> Run:
    """Replace the precisions that are auto by those with which a run was started."""
    auto_keys = [key for key in ("precision", "predict_precision") if getattr(run_keys, key) == "auto"]
    return run_keys.model_copy(update={key: getattr(recorded, key) for key in auto_keys})
