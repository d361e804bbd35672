"""Create an Accelerator for each part of a run (a fold or the refit), and free memory after the part is trained."""

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState

from maskfold.config.experiment import Config
from maskfold.models.device import pick_device


def process_state(device: torch.device) -> PartialState:
    """Return Accelerate's PartialState (rank and number of processes) for this type of device."""
    state = PartialState(cpu=device.type == "cpu")
    if state.device.type != device.type and state.num_processes == 1:
        # Accelerate keeps the first device that a process uses, but a notebook may change run.device later.
        AcceleratorState._reset_state(reset_partial_state=True)
        state = PartialState(cpu=device.type == "cpu")
    return state


def make_accelerator(config: Config) -> Accelerator:
    """Create an Accelerator for one part; `run.precision` must be resolved (not auto).

    The arguments are passed explicitly, so that no environment variable sets them. Accelerate's shared state is reset,
    because Accelerate refuses a second precision in one process; the process group is kept.
    """
    device = pick_device(config.run)
    mixed_precision = {"fp32": "no"}.get(config.run.precision, config.run.precision)
    process_state(device)
    AcceleratorState._reset_state()
    return Accelerator(
        cpu=device.type == "cpu", mixed_precision=mixed_precision, gradient_accumulation_steps=1, dynamo_backend="no"
    )


def free_memory(accelerator: Accelerator, compiled: bool) -> None:
    """Free what a part leaves in this process: Accelerate's references, torch.compile's caches, reference cycles."""
    if compiled:
        # torch.compile caches by function, not by model: after several folds the cache is full and compilation stops.
        torch.compiler.reset()
    # This also collects reference cycles and empties the GPU's cache.
    accelerator.free_memory()
