"""Device and precision by fixed rules, so that no measured time decides a number."""

import ctypes
import gc
import os
import platform
import random
from dataclasses import dataclass
from functools import cache

import torch
from timm.layers import set_fused_attn

from maskfold.config.experiment import Run
from maskfold.environment import ignore_variables
from maskfold.errors import UserError, first_line

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MOST_WORKERS = 8
# glibc's names, numbers (malloc.h) and what they are set to.
MALLOPT = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_TOP_PAD": (-2, 256 * 2**20)}


@dataclass(frozen=True)
class Hardware:
    """Where and in what precision a model predicts."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def prediction_hardware(run: Run) -> Hardware:
    """What a finished run predicts on, with this process set up for it. Raises UserError as pick_device does."""
    device = pick_device(run)
    make_fast(device)
    return Hardware(device, DTYPES[run.predict_precision])


def pick_device(run: Run) -> torch.device:
    """Raises UserError where run.device asks for a GPU that is not there or too old for this torch."""
    there = torch.cuda.is_available()
    if run.device == "cuda" and not there:
        raise UserError(
            "run.device: cuda is asked for, but torch sees no GPU; use --run.device cpu, or mend the driver"
        )
    if run.device == "cpu" or not there:
        return torch.device("cpu")
    major, minor = torch.cuda.get_device_capability()
    oldest = min(
        int(arch.partition("_")[2].rstrip("af")) for arch in torch.cuda.get_arch_list() if arch.startswith("sm_")
    )
    if major * 10 + minor < oldest:
        raise UserError(
            f"run.device: this GPU has compute capability {major}.{minor}, this torch needs {oldest / 10}; "
            "install torch 2.8 to 2.10 (they serve a V100), or use --run.device cpu"
        )
    return torch.device("cuda")


def pick_precisions(run: Run, device: torch.device) -> tuple[str, str]:
    """(training, prediction) with auto resolved: see the keys' help. Raises UserError for fp16 on a CPU."""
    train: str = run.precision
    predict: str = run.predict_precision
    if predict == "auto" and train != "auto":
        predict = train
    if device.type == "cuda":
        by_rule = "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
        train, predict = (by_rule if chosen == "auto" else chosen for chosen in (train, predict))
    else:
        train = "fp32" if train == "auto" else train
        if predict == "auto":
            predict = "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
        if "fp16" in (train, predict):
            raise UserError("run.precision: fp16 needs a GPU; use fp32 or bf16 on a CPU")
    return train, predict


def make_fast(device: torch.device) -> None:
    """Settings of this process that cost nothing but memory, whatever the environment says.

    On a GPU cudnn tries its algorithms for each shape, and float32 products go through TF32. On a CPU the allocator
    keeps what is freed: glibc gives large blocks back to the system and gets them back page by page, each zeroed, which
    is a fifth of a training step. It is what MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_ say in the environment.
    """
    ignore_variables()
    # TIMM_FUSED_ATTN is read when timm is imported; a model looks at this when it is built.
    set_fused_attn(True)
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = True
    elif platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in MALLOPT.values():
            libc.mallopt(option, value)


def free_device_memory(device: torch.device) -> None:
    """Collect reference cycles, and give what they held on a GPU back to other processes."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def check_compiler(run: Run, device: torch.device) -> None:
    """Raises UserError where run.compile is on and torch.compile does not work here."""
    if not run.compile or (fault := _compile_fault(device)) is None:
        return
    compiler = "a C++ compiler (g++ or clang++; CXX names another one)"
    if device.type == "cuda":
        compiler = "a C compiler and Python's headers, which Triton needs (gcc; CC names another one)"
    raise UserError(
        f"run.compile: torch.compile does not work here ({fault}); install {compiler}, or give --run.compile false"
    )


@cache
def _compile_fault(device: torch.device) -> str | None:
    """What torch says when it can't compile a small function for the device."""
    # A size of its own, so that no kernel of an earlier process serves: those would hide that the compiler is missing.
    size = random.SystemRandom().randrange(1_000, 1_000_000)
    try:
        torch.compile(lambda values: values.sin() + 1)(torch.zeros(size, device=device))
    # The compilers behind it raise what they like, and torch passes on some of it as it is.
    except Exception as fault:
        return first_line(fault)
    return None


def pick_workers(wanted: int | str, device: torch.device) -> int:
    """Loader processes. Beside a CPU model they would only take its cores: a stored sample costs 0.1 ms."""
    if isinstance(wanted, int):
        return wanted
    return 0 if device.type == "cpu" else min(MOST_WORKERS, cores() - 1)


def threads_each(processes: int) -> int:
    """CPU threads of each of some processes on this machine: its share of the cores, or OMP_NUM_THREADS if fewer."""
    return min(torch.get_num_threads(), max(1, cores() // processes))


def cores() -> int:
    """Those that this process may use, where the system tells (Linux)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
