"""Choose the device, precision, threads and loader processes by fixed rules, without measuring speed."""

import ctypes
import gc
import platform
import random
import sys
from dataclasses import dataclass
from functools import cache

import torch

from maskfold.config.experiment import Run
from maskfold.environment import ignore_variables
from maskfold.errors import UserError, first_line
from maskfold.machine_limits import num_cores
from maskfold.models.timm_library import set_fused_attn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MAX_WORKERS = 8
# Options of glibc's mallopt: name -> (number in malloc.h, value).
MALLOPT = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_TOP_PAD": (-2, 256 * 2**20)}


@dataclass(frozen=True)
class Hardware:
    """Device and precision of predictions."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, device: torch.device, precision: str) -> "Hardware":
        """Create Hardware from a device and a precision, which is a key of DTYPES."""
        return cls(device, DTYPES[precision])

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def prediction_hardware(run: Run, precision: str | None = None) -> Hardware:
    """Configure this process for predictions, and return their device and precision.

    If the GPU is missing or too old, the CPU is used. precision: a key of DTYPES; if None, run.predict_precision is
    used, which must be resolved (not auto). On a CPU, fp32 is used instead of fp16.
    """
    gpu_error, precision = _gpu_error(run), precision or run.predict_precision
    device = pick_device(run) if gpu_error is None else torch.device("cpu")
    if gpu_error is not None:
        _note(f"run.device: {gpu_error[0]}; predictions run on the CPU")
    if precision == "fp16" and device.type == "cpu":
        precision = "fp32"
        _note("run.predict_precision: fp16 needs a GPU; predictions on the CPU use fp32")
    configure_process(device)
    return Hardware.of(device, precision)


@cache
def _note(message: str) -> None:
    """Print a note. The same note is printed only once."""
    print(f"note: {message}", file=sys.stderr)


def pick_device(run: Run) -> torch.device:
    """The device that run.device selects. Raises UserError for a GPU that is missing or too old for this torch."""
    if (gpu_error := _gpu_error(run)) is not None:
        cause, fix = gpu_error
        raise UserError(f"run.device: {cause}; {fix}, or use --run.device cpu")
    return torch.device("cpu" if run.device == "cpu" or not torch.cuda.is_available() else "cuda")


def _gpu_error(run: Run) -> tuple[str, str] | None:
    """Return (cause, fix) if run.device needs a missing GPU or selects a GPU too old for this torch, else None."""
    has_gpu = torch.cuda.is_available()
    if run.device == "cuda" and not has_gpu:
        return "cuda is set, but torch sees no GPU", "update the driver"
    if run.device == "cpu" or not has_gpu:
        return None
    major, minor = torch.cuda.get_device_capability()
    oldest = min(
        int(arch.partition("_")[2].rstrip("af")) for arch in torch.cuda.get_arch_list() if arch.startswith("sm_")
    )
    if major * 10 + minor < oldest:
        cause = f"this GPU has compute capability {major}.{minor}, but this torch needs {oldest / 10}"
        return cause, "install torch 2.8 to 2.10, which still support a V100"
    return None


def pick_precisions(run: Run, device: torch.device) -> tuple[str, str]:
    """Return (training precision, prediction precision), with `auto` resolved as config/schema.py describes.

    Raises UserError for fp16 on a CPU.
    """
    train: str = run.precision
    predict: str = run.predict_precision
    if predict == "auto" and train != "auto":
        predict = train
    if device.type == "cuda":
        default = "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
        train, predict = (default if precision == "auto" else precision for precision in (train, predict))
    else:
        train = "fp32" if train == "auto" else train
        if predict == "auto":
            predict = "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
        for key, precision in (("precision", train), ("predict_precision", predict)):
            if precision == "fp16":
                raise UserError(f"run.{key}: fp16 needs a GPU; use fp32 or bf16 on a CPU")
    return train, predict


def configure_process(device: torch.device) -> None:
    """Configure this process for speed, whatever the environment variables say.

    On a GPU, cuDNN benchmarks its algorithms for each shape, and float32 matrix products use TF32. On a CPU, MALLOPT
    makes glibc's allocator keep freed memory. By default, glibc returns large blocks to the system and gets zeroed
    pages back, which takes a fifth of the time of a training step.
    """
    ignore_variables()
    # timm has read TIMM_FUSED_ATTN at import. This call overrides it: models read the setting when they are built.
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
    """Collect reference cycles, and release the GPU's cached memory to other processes."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def check_compiler(run: Run, device: torch.device) -> None:
    """Raise UserError if run.compile is on and torch.compile does not work here."""
    if not run.compile or (reason := _compile_error(device)) is None:
        return
    compiler = "a C++ compiler (g++ or clang++; CXX names another one)"
    if device.type == "cuda":
        compiler = "a C compiler and Python's headers, which Triton needs (gcc; CC names another one)"
    raise UserError(
        f"run.compile: torch.compile does not work here ({reason}); install {compiler}, or use --run.compile false"
    )


@cache
def _compile_error(device: torch.device) -> str | None:
    """Compile a small function. Return the first line of torch's error, or None if there is no error."""
    # The size is random, because a kernel cached by an earlier process would hide that the compiler is missing.
    size = random.SystemRandom().randrange(1_000, 1_000_000)
    try:
        torch.compile(lambda values: values.sin() + 1)(torch.zeros(size, device=device))
    # The compilers behind torch.compile raise exceptions of many types.
    except Exception as error:
        return first_line(error)
    return None


def pick_workers(num_workers: int | str, device: torch.device) -> int:
    """Number of loader processes; auto is 0 on a CPU, because loaders would take cores from the model."""
    if isinstance(num_workers, int):
        return num_workers
    return 0 if device.type == "cpu" else min(MAX_WORKERS, num_cores() - 1)


def threads_per_process(processes: int) -> int:
    """CPU threads for each of several processes that share the cores; at most torch.get_num_threads()."""
    return min(torch.get_num_threads(), max(1, num_cores() // processes))
