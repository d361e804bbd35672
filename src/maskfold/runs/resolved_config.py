"""The configuration as it is recorded with a run: values that depend on the data and the device are resolved."""

from pathlib import Path

import torch

from maskfold.config.experiment import Config, replaced
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.models.device import pick_precisions
from maskfold.places import recorded_path


def resolve_config(
    config: Config, run_folder: Path, prepared: Prepared, device: torch.device, recorded: Config | None = None
) -> Config:
    """Return the config with the paths of the data, the folds and seed of folds.csv, and precisions instead of auto.

    recorded: the resolved config with which a run was started; its precisions replace `auto` in `config`.
    """
    run_keys = config.run
    if recorded is not None:
        auto_keys = [key for key in ("precision", "predict_precision") if getattr(run_keys, key) == "auto"]
        run_keys = run_keys.model_copy(update={key: getattr(recorded.run, key) for key in auto_keys})
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
