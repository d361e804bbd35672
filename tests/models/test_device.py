"""Device, precision, threads and loader processes are chosen by fixed rules."""

from types import SimpleNamespace

import pytest
import torch

from maskfold.config.experiment import Run
from maskfold.errors import UserError
from maskfold.models import device as devices
from maskfold.models.device import configure_process, threads_per_process


@pytest.mark.parametrize(
    ("keys", "bf16", "expected"),
    [
        ({}, True, ("fp32", "bf16")),
        ({}, False, ("fp32", "fp32")),
        ({"precision": "fp32"}, True, ("fp32", "fp32")),
        ({"precision": "bf16"}, False, ("bf16", "bf16")),
        ({"predict_precision": "fp32"}, True, ("fp32", "fp32")),
    ],
)
def test_precision_on_a_cpu(monkeypatch, keys, bf16, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    assert devices.pick_precisions(Run(**keys), torch.device("cpu")) == expected


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), "bf16"), ((9, 0), "bf16"), ((7, 5), "fp16")])
def test_precision_on_a_gpu(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert devices.pick_precisions(Run(), torch.device("cuda")) == (expected, expected)
    assert devices.pick_precisions(Run(precision="fp32"), torch.device("cuda")) == ("fp32", "fp32")


def test_missing_hardware_is_a_user_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"run\.device.*no GPU"):
        devices.pick_device(Run(device="cuda"))
    for key in ("precision", "predict_precision"):
        with pytest.raises(UserError, match=rf"run\.{key}: fp16 needs a GPU"):
            devices.pick_precisions(Run(**{key: "fp16"}), torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_120a"])
    with pytest.raises(UserError, match=r"compute capability 7\.0.*7\.5.*2\.8"):
        devices.pick_device(Run())
    assert devices.pick_device(Run(device="cpu")) == torch.device("cpu")


def test_a_run_from_a_gpu_predicts_on_a_cpu(monkeypatch, capfd):
    """There the run's device cannot be changed by a flag, and fp16 needs a GPU."""
    devices._note.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpu = torch.device("cpu")
    for precision, dtype in (("fp16", torch.float32), ("bf16", torch.bfloat16), ("fp32", torch.float32)):
        hardware = devices.prediction_hardware(Run(device="cuda", predict_precision=precision))
        assert (hardware.device, hardware.dtype) == (cpu, dtype)
    notes = capfd.readouterr().err.splitlines()
    assert len(notes) == 2
    assert "no GPU" in notes[0]
    assert "fp16" in notes[1]
    assert devices.prediction_hardware(Run(predict_precision="fp16")).dtype == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75"])
    assert devices.prediction_hardware(Run(predict_precision="fp32")).device == cpu
    assert "compute capability" in capfd.readouterr().err


def test_workers_by_device(monkeypatch):
    assert devices.pick_workers("auto", SimpleNamespace(type="cpu")) == 0
    assert devices.pick_workers(3, SimpleNamespace(type="cpu")) == 3
    monkeypatch.setattr("maskfold.machine_limits.os.sched_getaffinity", lambda _: set(range(32)))
    assert devices.pick_workers("auto", SimpleNamespace(type="cuda")) == 8


def test_matrix_products_are_exact_on_a_cpu():
    torch.set_float32_matmul_precision("medium")
    configure_process(torch.device("cpu"))
    assert torch.get_float32_matmul_precision() == "highest"


def test_parallel_folds_share_the_threads(monkeypatch):
    monkeypatch.setattr("maskfold.models.device.num_cores", lambda: 16)
    for threads, processes, expected in ((16, 2, 8), (1, 2, 1), (16, 5, 3), (16, 32, 1)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert threads_per_process(processes) == expected
