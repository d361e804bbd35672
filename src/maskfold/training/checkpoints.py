"""Checkpoint of an unfinished fold or refit: the state that does not follow from the config and the update number."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from maskfold.errors import UserError, first_line
from maskfold.fileio import check_readable, write_atomic
from maskfold.json_record import check_record
from maskfold.models.torch_file import load_torch_file
from maskfold.runs.run_folder import RunFolder
from maskfold.runs.run_records import EpochRow
from maskfold.training.train_state import TrainState


def _are_sums(value: Any) -> bool:
    return value is None or (isinstance(value, torch.Tensor) and value.shape == (3,) and value.is_floating_point())


# {key of a checkpoint: function that checks whether its value is valid}.
CHECKPOINT_KEYS: dict[str, Callable[[Any], bool]] = {
    "identity": lambda value: isinstance(value, str),
    "history": lambda value: isinstance(value, list),
    "step": lambda value: type(value) is int and value >= 0,
    "sums": _are_sums,
    "train_state": lambda value: isinstance(value, dict),
}


def pack_state(state: TrainState) -> dict:
    """Return the state dicts of model, optimiser, EMA and gradient scaler.

    The order of the photos, the dropout noise and the learning rate are not saved: they follow from the config, the
    update number and the history.
    """
    modules = {"model": state.model, "optimizer": state.optimizer}
    if state.ema is not None:
        modules["ema"] = state.ema.module
    if state.accelerator.scaler is not None:
        modules["scaler"] = state.accelerator.scaler
    return {name: module.state_dict() for name, module in modules.items()}


def unpack_state(state: TrainState, packed: dict, path: Path) -> None:
    """Load what pack_state returned. Raises UserError, with the checkpoint's `path`, if the content does not fit."""
    try:
        state.model.load_state_dict(packed["model"])
        state.optimizer.load_state_dict(packed["optimizer"])
        if state.ema is not None:
            state.ema.module.load_state_dict(packed["ema"])
        if state.accelerator.scaler is not None:
            state.accelerator.scaler.load_state_dict(packed["scaler"])
    # torch may raise an exception of any type if a value has the wrong type.
    except Exception as error:
        raise _damaged(path, error) from error


def save_checkpoint(run: RunFolder, part: str, checkpoint: dict) -> None:
    """Write a checkpoint, a dict with the keys of CHECKPOINT_KEYS."""
    # Serialise in memory first, so that a full disk raises OSError with the file's name, not an error of torch.save.
    content = io.BytesIO()
    torch.save(checkpoint, content)
    write_atomic(run.state_path(part), lambda temporary: temporary.write_bytes(content.getbuffer()))


def load_checkpoint(run: RunFolder, part: str, identity: str) -> dict | None:
    """Return the last checkpoint, or None if there is none yet.

    identity: the expected `identity` in the checkpoint. Raises UserError if the file is damaged, belongs to another
    run or part, or was written by another version.
    """
    path = run.state_path(part)
    if not path.exists():
        return None
    try:
        checkpoint = load_torch_file(path)
    except Exception as error:
        check_readable(path)
        raise _damaged(path, error) from error
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= CHECKPOINT_KEYS.keys():
        raise UserError(f"{path}: not a checkpoint, or written by another version of maskfold; {_fix(path)}")
    if checkpoint["identity"] != identity:
        raise UserError(f"{path}: this checkpoint belongs to another run or part; {_fix(path)}")
    if invalid_keys := [key for key, is_valid in CHECKPOINT_KEYS.items() if not is_valid(checkpoint[key])]:
        raise UserError(f"{path}: not a readable checkpoint ({invalid_keys[0]} is not valid); {_fix(path)}")
    for row in checkpoint["history"]:
        check_record(path, row, EpochRow, _fix(path))
    return checkpoint


def _fix(path: Path) -> str:
    return f"delete {path.parent} to train {path.parent.parent.name} again"


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a readable checkpoint ({first_line(error)}); {_fix(path)}")
