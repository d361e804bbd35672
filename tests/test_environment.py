"""Variables of other libraries change no result, and an incomplete distributed launch is a UserError."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, refused, tiny_args

from maskfold.environment import check_compile_variables, check_launch, ignore_variables
from maskfold.errors import UserError

ACCELERATE = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_USE_CPU": "0",
    "ACCELERATE_TORCH_DEVICE": "meta",
    "ACCELERATE_DYNAMO_BACKEND": "inductor",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_MEGATRON_LM": "true",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "ACCELERATE_CPU_AFFINITY": "1",
}
KERNELS = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "TIMM_FUSED_ATTN": "0",
}
PYTHON = {"PYTHONHASHSEED": "7", "PYTHONOPTIMIZE": "1"}
# ASCII as the encoding of files and streams, as without Python's UTF-8 mode.
LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
LAUNCH = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def train_with(raw: Path, home: Path, variables: dict[str, str], *more: object) -> tuple[bytes, str]:
    """Train in a separate process, in a folder with Korean letters; return out-of-fold probabilities and stderr."""
    home = home / "실험"
    home.mkdir(parents=True)
    words = [*tiny_args(raw, "--folds", 0, "--optim.epochs", 1, "--name", "학습"), *more]
    command = [sys.executable, ROOT / "scripts" / "train.py", *words]
    ended = subprocess.run(list(map(str, command)), cwd=home, env=os.environ | variables, capture_output=True)
    err = ended.stderr.decode(errors="replace")
    assert ended.returncode == 0, err
    return np.load(home / "runs" / "학습" / "fold0" / "oof.npz")["probs"].tobytes(), err


@pytest.fixture(scope="module")
def default_probs(synthetic, tmp_path_factory) -> bytes:
    return train_with(synthetic, tmp_path_factory.mktemp("default_probs"), {})[0]


@pytest.mark.slow
def test_no_variable_changes_a_probability(default_probs, synthetic, tmp_path):
    # Python does not start in an ASCII locale from an environment whose path is not ASCII.
    locale = LOCALE if str(ROOT).isascii() else {}
    probs, err = train_with(synthetic, tmp_path, ACCELERATE | KERNELS | locale | {"PYTHONHASHSEED": "7"})
    assert probs == default_probs
    [line] = [line for line in err.splitlines() if "ignored environment variables" in line]
    assert all(name in line for name in ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "ATEN_CPU_CAPABILITY"))


# A run for each variable; test_no_variable_changes_a_probability sets all of them in one.
@pytest.mark.long
@pytest.mark.parametrize("name", [*ACCELERATE, *KERNELS, *PYTHON])
def test_no_single_variable_changes_a_probability(default_probs, synthetic, tmp_path, name):
    assert train_with(synthetic, tmp_path, {name: (ACCELERATE | KERNELS | PYTHON)[name]})[0] == default_probs


@pytest.mark.slow
def test_timm_fused_attn_changes_no_probability(synthetic, tmp_path):
    vit = ("--model.backbone", "test_vit")
    plain, _ = train_with(synthetic, tmp_path / "plain", {}, *vit)
    assert train_with(synthetic, tmp_path / "unfused", {"TIMM_FUSED_ATTN": "0"}, *vit)[0] == plain


@pytest.mark.slow
def test_parallel_folds_ignore_the_variables_too(default_probs, synthetic, tmp_path):
    probs, _ = train_with(synthetic, tmp_path, ACCELERATE, "--folds", 0, 1, "--parallel-folds", 2)
    assert probs == default_probs


@pytest.mark.slow
def test_ascii_streams_do_not_end_a_run(default_probs, synthetic, tmp_path):
    assert train_with(synthetic, tmp_path, {"PYTHONIOENCODING": "ascii"})[0] == default_probs


def test_which_variables_are_removed(capsys):
    kept = {"PATH": "/bin", "OMP_NUM_THREADS": "1", "TORCH_HOME": "/x"}
    environ = kept | ACCELERATE | {"MKL_CBWR": "COMPATIBLE"}
    ignore_variables(environ)
    assert environ == kept
    assert capsys.readouterr().err.count("\n") == 1
    ignore_variables(environ)
    # Under torchrun only the first process prints the line.
    ignore_variables(LAUNCH | {"RANK": "1"} | ACCELERATE)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "environ",
    [
        {"LOCAL_RANK": "0"},
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": ""},
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"PMI_SIZE": "4"},
        {name: value for name, value in LAUNCH.items() if name != "MASTER_PORT"},
    ],
)
def test_an_incomplete_launch_is_a_user_error(environ):
    with pytest.raises(UserError, match="torchrun"):
        check_launch(environ)


@pytest.mark.parametrize("environ", [{}, LAUNCH, {"RANK": "0", "WORLD_SIZE": "1"}, {"PMI_SIZE": "1"}])
def test_a_complete_launch_or_none_is_accepted(environ):
    check_launch(environ)


@pytest.mark.parametrize("verb", ["train", "find_lr", "pipeline"])
@pytest.mark.parametrize(
    ("variable", "value", "more", "words"),
    [
        ("WORLD_SIZE", "", (), ["WORLD_SIZE=", "torchrun"]),
        ("OMPI_COMM_WORLD_SIZE", "2", (), ["OMPI_COMM_WORLD_SIZE=2", "torchrun"]),
        ("TORCH_COMPILE_DISABLE", "1", ("--run.compile", "true"), ["run.compile", "TORCH_COMPILE_DISABLE"]),
    ],
)
def test_every_command_that_trains_checks_the_environment_first(
    script, synthetic, monkeypatch, verb, variable, value, more, words
):
    monkeypatch.setenv(variable, value)
    refused(script(verb, *tiny_args(synthetic, *more)), *words)
    assert not Path("data").exists()


def test_the_error_is_printed_on_every_rank(script, synthetic, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(script("train", *tiny_args(synthetic)), "WORLD_SIZE=2", "LOCAL_RANK", "torchrun")


def test_compiler_variables_are_a_user_error():
    check_compile_variables({"TORCHINDUCTOR_CACHE_DIR": "/x", "TORCH_LOGS": "dynamo"})
    with pytest.raises(UserError, match="TORCH_COMPILE_DISABLE"):
        check_compile_variables({"TORCH_COMPILE_DISABLE": "1"})


def test_threads_are_recorded_and_another_number_is_reported(script, synthetic, monkeypatch):
    import torch

    assert script("train", *tiny_args(synthetic, "--folds", 0)).code == 0
    path = Path("runs/demo/provenance.json")
    provenance = json.loads(path.read_text(encoding="utf-8"))
    assert provenance["threads"] == torch.get_num_threads()
    again = tiny_args(synthetic, "--folds", 0)
    assert "threads" not in script("train", *again).err
    path.write_text(json.dumps(provenance | {"threads": 64}), encoding="utf-8")
    resumed = script("train", *again)
    assert resumed.code == 0
    assert [line for line in resumed.err.splitlines() if "64 CPU threads" in line and "OMP_NUM_THREADS=64" in line]
