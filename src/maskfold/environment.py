"""Remove or reject environment variables of other libraries that would change results without a message."""

import os
import sys
from collections.abc import MutableMapping

from maskfold.errors import UserError

# Variables that are removed before the libraries read them. Accelerate's variables override its arguments, such as
# gradient accumulation, or choose a device, an optimiser wrapper or a number of threads. The variables in IGNORED
# select different kernels or a lower precision.
IGNORED_PREFIX = "ACCELERATE_"
IGNORED = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_LINEAR_FLATTEN_3D",
    "TORCH_MKLDNN_MATMUL_MIN_DIM",
    "TORCH_MKLDNN_MATMUL_MIN_SIZE",
)
# The modules of torch.compile read variables with these prefixes when they are imported. Variables with the harmless
# endings only affect where the compiled code is stored, what is logged and how fast the compilation is.
COMPILE_PREFIXES = ("TORCHDYNAMO_", "TORCHINDUCTOR_", "TORCH_COMPILE_")
COMPILE_HARMLESS = ("_CACHE_DIR", "_COMPILE_THREADS", "_FX_GRAPH_CACHE", "_VERBOSE", "_WORKER_START")
# The variables that torchrun sets in each of its processes, and those in which MPI gives the number of processes.
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def ignore_variables(environ: MutableMapping[str, str] = os.environ) -> None:
    """Remove variables that would change results, and print their names. Child processes do not inherit them."""
    names = sorted(name for name in environ if name.startswith(IGNORED_PREFIX) or name in IGNORED)
    for name in names:
        del environ[name]
    if names and ("LOCAL_RANK" not in environ or environ.get("RANK", "0") == "0"):
        print(
            f"ignored environment variables: {', '.join(names)} (set options in the configuration instead)",
            file=sys.stderr,
        )


def launched_processes(environ: MutableMapping[str, str] = os.environ) -> int:
    """The number of processes in WORLD_SIZE; 1 if it is missing, empty or not a number."""
    size = environ.get("WORLD_SIZE", "")
    return int(size) if size.isdecimal() else 1


def check_launch(environ: MutableMapping[str, str] = os.environ) -> None:
    """Raise UserError for a distributed launch that lacks some of the variables that torchrun sets."""
    sizes = {name: environ[name] for name in ("WORLD_SIZE", *MPI) if environ.get(name, "1") != "1"}
    if "LOCAL_RANK" not in environ and not sizes:
        return
    if missing := [name for name in TORCHRUN if not environ.get(name)]:
        present = sizes or {"LOCAL_RANK": environ["LOCAL_RANK"]}
        raise UserError(
            f"environment: {', '.join(f'{name}={value}' for name, value in present.items())} is set without "
            f"{', '.join(missing)}; start several processes with torchrun, or unset {', '.join(present)}"
        )


def check_compile_variables(environ: MutableMapping[str, str] = os.environ) -> None:
    """Raise UserError if a variable changes the behaviour of torch.compile."""
    names = [name for name in environ if name.startswith(COMPILE_PREFIXES) and not name.endswith(COMPILE_HARMLESS)]
    if names:
        raise UserError(
            "run.compile: environment variables that change the behaviour of torch.compile are set: "
            f"{', '.join(sorted(names))}; unset them"
        )
