"""The checkpoint of a part under way: all that its next update depends on, on disk."""

import io
import pickle

import torch

from maskfold.errors import UserError, first_line
from maskfold.fileio import write_atomic
from maskfold.runs.run_folder import RunFolder
from maskfold.training.engine import Trainee


def pack(trainee: Trainee) -> dict:
    """All that the next update depends on, save what the update's number gives (order, noise, learning rate)."""
    held = {"model": trainee.model, "optimizer": trainee.optimizer}
    if trainee.ema is not None:
        held["ema"] = trainee.ema.module
    if trainee.accelerator.scaler is not None:
        held["scaler"] = trainee.accelerator.scaler
    return {name: part.state_dict() for name, part in held.items()}


def unpack(trainee: Trainee, packed: dict) -> None:
    """Put packed tensors back."""
    trainee.model.load_state_dict(packed["model"])
    trainee.optimizer.load_state_dict(packed["optimizer"])
    if trainee.ema is not None:
        trainee.ema.module.load_state_dict(packed["ema"])
    if trainee.accelerator.scaler is not None:
        trainee.accelerator.scaler.load_state_dict(packed["scaler"])


def save_state(run: RunFolder, part: str, state: dict) -> None:
    # Through memory: a full disk is then an OSError that names it, whatever the library would have made of it.
    content = io.BytesIO()
    torch.save(state, content)
    write_atomic(run.state_path(part), lambda beside: beside.write_bytes(content.getbuffer()))


def load_state(run: RunFolder, part: str, belongs: str) -> dict | None:
    """The last checkpoint, or None before the first. Raises UserError for one that is broken or of another run."""
    path = run.state_path(part)
    if not path.exists():
        return None
    mend = f"delete {path.parent} to train {part} anew"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        owner = state["belongs"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, OSError) as fault:
        raise UserError(f"{path}: no readable checkpoint ({first_line(fault)}); {mend}") from fault
    if owner != belongs:
        raise UserError(f"{path}: a checkpoint of another run or part; {mend}")
    return state
