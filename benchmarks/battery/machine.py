"""What the battery runs on. Read in a process of its own, because a process that has used CUDA can't be forked."""

import platform
from datetime import date

import torch

from battery.context import Context
from battery.section_runner import Recorder
from maskfold.machine_limits import num_cores
from maskfold.runs.code_state import code_state

DEVICE = "device"
# The text that is recorded where a library has already used the GPU in the process that was forked.
BAD_FORK = "a forked process can't use the GPU"


def describe_machine(context: Context, record: Recorder) -> None:
    """Record the machine as texts, DEVICE first. On a GPU, compute a small product, which shows that it works."""
    if context.device == "cuda":
        if torch.cuda._is_in_bad_fork():
            record.text(BAD_FORK, "")
            return
        properties = torch.cuda.get_device_properties(0)
        torch.ones(8, 8, device="cuda").mm(torch.ones(8, 8, device="cuda")).sum().item()
        record.text(DEVICE, properties.name)
        record.text("memory", f"{properties.total_memory / 2**30:.0f} GiB")
        record.text("compute capability", f"{properties.major}.{properties.minor}")
        record.text("CUDA", str(torch.version.cuda))
    else:
        record.text(DEVICE, f"CPU ({platform.machine()}), a tiny test of the battery itself")
    state = code_state()
    for name in ("python", "torch", "timm", "albumentations"):
        record.text(name, str(state["versions"].get(name)))
    record.text("cores", str(num_cores()))
    record.text("commit", str(state["git_commit"])[:14])
    record.text("date", str(date.today()))
