"""One Accelerator for each part of a run: made for it, and freed with all that the part leaves in memory."""

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState

from maskfold.config.experiment import Config
from maskfold.models.device import pick_device


def process_state(device: torch.device) -> PartialState:
    """Rank and number of processes on this kind of device."""
    state = PartialState(cpu=device.type == "cpu")
    if state.device.type != device.type and state.num_processes == 1:
        # Accelerate keeps the device of its first use in a process, as in a notebook that changes run.device.
        AcceleratorState._reset_state(reset_partial_state=True)
        state = PartialState(cpu=device.type == "cpu")
    return state


def make_accelerator(config: Config) -> Accelerator:
    """A new one for each part, of a config whose precision is resolved. Its arguments leave the environment no choice.

    The state that Accelerate shares in a process is set anew: it would refuse another precision. The process group
    stays.
    """
    device = pick_device(config.run)
    mixed = {"fp32": "no"}.get(config.run.precision, config.run.precision)
    process_state(device)
    AcceleratorState._reset_state()
    return Accelerator(
        cpu=device.type == "cpu", mixed_precision=mixed, gradient_accumulation_steps=1, dynamo_backend="no"
    )


def free_memory(accelerator: Accelerator, compiled: bool) -> None:
    """Release all that a part leaves in this process: what Accelerate and torch.compile keep, and reference cycles."""
    if compiled:
        # Kept by function, not by model: after some folds torch would stop compiling, too.
        torch.compiler.reset()
    # It collects reference cycles and empties the GPU's cache itself.
    accelerator.free_memory()
