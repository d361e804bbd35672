"""Checkpoint of a part that is in training: what cannot be computed again from config and update number."""

import io
import pickle

import torch

from maskfold.errors import UserError, first_line
from maskfold.fileio import write_atomic
from maskfold.runs.run_folder import RunFolder
from maskfold.training.train_state import TrainState

# The keys of a checkpoint.
KEYS = {"identity", "history", "step", "sums", "train_state"}


def pack_state(state: TrainState) -> dict:
    """State dicts of model, optimiser, EMA and gradient scaler.

    Order of the photos, dropout noise and learning rate are not in it: they are functions of the update's number.
    """
    modules = {"model": state.model, "optimizer": state.optimizer}
    if state.ema is not None:
        modules["ema"] = state.ema.module
    if state.accelerator.scaler is not None:
        modules["scaler"] = state.accelerator.scaler
    return {name: module.state_dict() for name, module in modules.items()}


def unpack_state(state: TrainState, packed: dict) -> None:
    """Load what pack_state returned."""
    state.model.load_state_dict(packed["model"])
    state.optimizer.load_state_dict(packed["optimizer"])
    if state.ema is not None:
        state.ema.module.load_state_dict(packed["ema"])
    if state.accelerator.scaler is not None:
        state.accelerator.scaler.load_state_dict(packed["scaler"])


def save_checkpoint(run: RunFolder, part: str, checkpoint: dict) -> None:
    """Write a checkpoint, a dict with KEYS."""
    # Serialised in memory first: a full disk then raises OSError with the file's name, not an error of torch.save.
    content = io.BytesIO()
    torch.save(checkpoint, content)
    write_atomic(run.state_path(part), lambda beside: beside.write_bytes(content.getbuffer()))


def load_checkpoint(run: RunFolder, part: str, identity: str) -> dict | None:
    """Return the last checkpoint, or None where there is none yet.

    identity: what its `identity` must be. Raises UserError for a file that is damaged, of another run
    or of an older version.
    """
    path = run.state_path(part)
    if not path.exists():
        return None
    fix = f"delete {path.parent} to train {part} again"
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a readable checkpoint ({first_line(error)}); {fix}") from error
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= KEYS:
        raise UserError(f"{path}: not a checkpoint, or one of another version of maskfold; {fix}")
    if checkpoint["identity"] != identity:
        raise UserError(f"{path}: this checkpoint belongs to another run or part; {fix}")
    return checkpoint
