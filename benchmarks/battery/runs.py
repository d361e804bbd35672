"""Correctness of whole runs: predictions of one checkpoint on both devices, stop and resume, memory by fold."""

import os
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from battery.context import Context
from battery.section_runner import Recorder
from maskfold.errors import TimeIsUp
from maskfold.loading.store import open_store
from maskfold.models.device import Hardware, configure_process
from maskfold.probabilities import load_predictions
from maskfold.runs.part_predictions import PartRows, predict_parts
from maskfold.training.fit import fit_run
from maskfold.training.fold_job import TrainRequest
from maskfold.training.stop_request import StopRequest

# Largest difference of a probability from the CPU's in fp32.
MAX_DIFFERENCE = {"fp32": 0.01, "fp16": 0.01, "bf16": 0.05}
# Times that the run is stopped, each time after one update.
STOPS = 3


def predictions(context: Context, record: Recorder) -> None:
    """Train a fold on the device, and predict all photos with its checkpoint on both devices."""
    config = context.recipe("resnet18", {"optim.epochs": "2"})
    run, _ = fit_run(config, "predictions", TrainRequest(folds=[0], out=context.scratch / "predictions"))
    last = run.read_metrics("fold0")[-1]
    record.row("resnet18, 2 epochs: macro F1 of its fold", last["macro_f1"], "", note=f"loss {last['train_loss']:.3f}")
    prepared = context.prepared()
    store, rows = open_store(prepared, prepared.images, config.data), np.arange(len(prepared.images))

    def probs(device: str, precision: str) -> np.ndarray:
        hardware = Hardware.of(torch.device(device), precision)
        configure_process(hardware.device)
        return predict_parts([PartRows(run, run.config, "fold0", store, rows, hardware)], ("none", "hflip"))[0]

    expected = probs("cpu", "fp32")
    for precision in context.precisions:
        computed = probs(context.device, precision)
        equal = np.mean(computed.argmax(1) == expected.argmax(1))
        difference = float(np.abs(computed - expected).max())
        note = f"{equal:.2%} of the predicted labels are equal"
        what = f"predictions in {precision}: largest difference of a probability from the CPU's"
        record.row(what, difference, "", len(rows), at_most=MAX_DIFFERENCE[precision], note=note)


def resume(context: Context, record: Recorder) -> None:
    """Train a fold twice without a break, and once with stops, in fp16 with EMA (on a CPU in fp32)."""
    # All runs of this process use the same algorithms, and only those with reproducible results.
    # cuBLAS reads the variable when it is first used.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    first, second = (_probs(context, name) for name in ("unbroken-1", "unbroken-2"))
    noise = float(np.abs(first - second).max())
    record.row("largest difference of a probability, two unbroken runs", noise, "", len(first))
    for _ in range(STOPS):
        # The time is up at once, so training stops after the first update.
        with suppress(TimeIsUp):
            _probs(context, "stopped", StopRequest(deadline=0.0))
            raise RuntimeError("training did not stop at its deadline")
    difference = float(np.abs(_probs(context, "stopped") - first).max())
    at_most = 3 * noise + (0.001 if context.device == "cuda" else 0.0)
    what = f"the same, a run stopped {STOPS} times and resumed"
    record.row(what, difference, "", len(first), at_most=at_most, note=f"{_precision(context)}, EMA")


def _precision(context: Context) -> str:
    return "fp16" if context.device == "cuda" else "fp32"


def _probs(context: Context, name: str, stop: StopRequest | None = None) -> np.ndarray:
    """Out-of-fold probabilities of fold 0 of a run of two epochs, float32 [N, 18]."""
    flags = {"optim.epochs": "2", "optim.ema_decay": "0.9", "run.precision": _precision(context)}
    folder: Path = context.scratch / name
    request = TrainRequest(folds=[0], out=folder, stop=stop or StopRequest())
    fit_run(context.recipe("resnet18", flags), name, request)
    return load_predictions(folder / "fold0" / "oof.npz", out_of_fold=True).probs


def resident_mb() -> float:
    """Resident memory of this process in MB."""
    kilobytes = re.search(r"VmRSS:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes[1]) / 1024 if kilobytes else 0.0


def memory_by_fold(context: Context, record: Recorder) -> None:
    """Memory after folds 1, 2 and 3 of a run, trained one after the other in one process."""
    config = context.recipe("resnet18", {"optim.epochs": "1", "optim.warmup_epochs": "0"})
    allocated, peaks, host = [], [], []
    for fold in range(3):
        context.reset_peak()
        fit_run(config, "folds", TrainRequest(folds=[fold], out=context.scratch / "folds"))
        allocated.append(context.allocated_mb())
        peaks.append(context.peak_mb())
        host.append(resident_mb())
    for what, values, limit in (
        ("device memory in use after a fold", allocated, allocated[0] + 1),
        ("peak of the device memory in a fold", peaks, 1.02 * peaks[0]),
        # The first fold also loads what all folds share.
        ("memory of the process after a fold", host, 1.05 * host[1]),
    ):
        note = f"folds 1 to 3: {', '.join(f'{value:,.0f}' for value in values)}"
        record.row(f"{what}, third fold", values[-1], "MB", at_most=limit, note=note)
