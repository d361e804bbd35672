"""The configuration as it is recorded with a run: values that depend on the data and the device are resolved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskfold.config.experiment import Config, replaced
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.places import recorded_path

if TYPE_CHECKING:
    import torch


def resolve_config(
    config: Config, run_folder: Path, prepared: Prepared, device: torch.device, recorded: Config | None = None
) -> Config:
    """Return the config with the paths of the data, the number and the seed of the folds, and resolved precisions.

    recorded: the resolved config with which a run was started (see with_recorded_values). Without `recorded`,
    optim.accum_steps may stay `auto`; resolve_accum_steps() replaces it later.
    """
    from maskfold.models.device import pick_precisions

    if recorded is not None:
        config = with_recorded_values(config, recorded)
    precision, predict_precision = pick_precisions(config.run, device)
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


def with_recorded_values(config: Config, recorded: Config) -> Config:
    """Replace values in `config` by those with which a run was started.

    These are `auto` in the precisions and in optim.accum_steps, and data.decode if neither a file nor a flag sets it:
    its default was another one when old runs were started.
    """
    auto_keys = [key for key in ("precision", "predict_precision") if getattr(config.run, key) == "auto"]
    optim = {"accum_steps": recorded.optim.accum_steps} if config.optim.accum_steps == "auto" else {}
    data = {} if "decode" in config.data.model_fields_set else {"decode": recorded.data.decode}
    return replaced(config, data=data, run={key: getattr(recorded.run, key) for key in auto_keys}, optim=optim)
