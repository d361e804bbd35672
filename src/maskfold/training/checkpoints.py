"""A fold's tensors on disk: the state to go on from, and the weights it ends with."""

import pickle

import torch
from safetensors.torch import load_file, save_file

from maskfold.errors import UserError
from maskfold.files import write_atomic
from maskfold.training.runs import RunFolder


def save_state(run: RunFolder, fold: int, state: dict) -> None:
    write_atomic(run.state_path(fold), lambda beside: torch.save(state, beside))


def load_state(run: RunFolder, fold: int, belongs: str) -> dict | None:
    """The last checkpoint, or None before the first. Raises UserError for one that is broken or of another run."""
    path = run.state_path(fold)
    if not path.exists():
        return None
    mend = f"delete {path.parent} to train fold {fold} anew"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        owner = state["belongs"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, OSError) as fault:
        reason = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise UserError(f"{path}: no readable checkpoint ({reason}); {mend}") from fault
    if owner != belongs:
        raise UserError(f"{path}: a checkpoint of another run or fold; {mend}")
    return state


def save_weights(run: RunFolder, fold: int, weights: dict[str, torch.Tensor]) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    write_atomic(run.weights_path(fold), lambda beside: save_file(tensors, beside))


def load_fold(model: torch.nn.Module, run: RunFolder, fold: int) -> None:
    """Put a finished fold's weights into the model. Raises UserError where they are missing."""
    path = run.weights_path(fold)
    if not path.exists():
        raise UserError(f"{path}: not found; delete {path.parent} and train fold {fold} again")
    model.load_state_dict(load_file(path))
