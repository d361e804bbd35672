"""Shared fixtures: small synthetic data in a folder with a space and Korean letters in its name, and the real scripts."""

import atexit
import errno
import gc
import json
import os
import runpy
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ["WANDB_MODE"] = "disabled"
# One thread everywhere, so that runs in this process and in others are bit-identical.
os.environ["OMP_NUM_THREADS"] = "1"
for name in [name for name in os.environ if name.startswith("SM_")]:
    del os.environ[name]

import hypothesis
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from maskfold.config.experiment import Config, Loss
from maskfold.loading.mixing import Mixer
from maskfold.models.losses import BatchLoss
from maskfold.models.targets import TargetEncoder
from maskfold.synthetic.demo_data import make_demo
from maskfold.training.engine import EpochSums, Update, training_step
from maskfold.training.train_state import TrainState

# Imported modules are never freed. Scanning them in each collection (one per trained fold) took a quarter of the time.
gc.collect()
gc.freeze()
# Otherwise libraries report leaked objects at exit.
atexit.register(gc.unfreeze)

# On a busy machine a deadline fails although nothing is wrong.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")

ROOT = Path(__file__).parent.parent
# A tiny model with layer norm instead of batch norm, on tiny photos.
TINY = [
    "--model.backbone",
    "test_convnext",
    "--data.image_size",
    "32",
    "32",
    "--optim.epochs",
    "2",
    "--optim.warmup_epochs",
    "0",
]
TINY += ["--optim.batch_size", "16", "--run.wandb", "disabled", "--run.device", "cpu"]


def plain_train_state(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    config: Config | None = None,
    counts: np.ndarray | None = None,
    ages: np.ndarray | None = None,
    accelerator: Accelerator | None = None,
    **more: object,
) -> TrainState:
    """A TrainState for up to 999 photos, of unknown age without `ages`."""
    config = config or Config(loss=Loss())
    counts = np.full(18, 10) if counts is None else counts
    ages = np.zeros(999, int) if ages is None else ages
    target_encoder = TargetEncoder(config, ages, np.ones(len(ages)), "cpu")
    parts = (BatchLoss(config.loss, counts), target_encoder, Mixer(config.mix, config.seed))
    return TrainState(accelerator or Accelerator(cpu=True), model, model, optimizer, *parts, **more)


def train_one_epoch(train_state: TrainState, loader, after=lambda: None) -> tuple[float, float]:
    """Make an update for each batch of a loader; returns (mean loss per photo, mean gradient norm)."""
    batches, sums = loader.batch_sampler, EpochSums.zeros(train_state.accelerator.device)
    train_state.wrapped_model.train()
    for step, batch in enumerate(loader):
        training_step(train_state, batch, Update(batches.epoch, step, batches.size(step)), sums)
        after()
    return sums.means(train_state.accelerator, len(batches.rows))


@pytest.fixture(scope="module", autouse=True)
def objects_of_earlier_modules():
    """Leave out the objects that exist already when garbage is collected, which otherwise takes ever longer."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_accelerator():
    """Reset Accelerate's state, which is per process: scripts run in their own processes, tests share one."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory) -> Path:
    """A raw data set of 12 + 6 synthetic people. Do not change it; use `raw` for a copy."""
    folder = tmp_path_factory.mktemp("한글 folder") / "원본 raw"
    make_demo(folder, 12, 6, seed=3)
    return folder


@pytest.fixture
def raw(synthetic, tmp_path) -> Path:
    """A copy of the synthetic data, which a test may change."""
    return Path(shutil.copytree(synthetic, tmp_path / "raw data 사본"))


@pytest.fixture
def no_access(monkeypatch) -> Path:
    """A folder below which nothing may be looked for, such as the home of another user."""
    folder, stat = Path("/gone/with/another/machine"), os.stat

    def refuse(path, *args, **kwargs):
        if str(path).startswith(f"{folder}/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refuse)
    return folder


@pytest.fixture
def script(capfd, monkeypatch, tmp_path):
    """Run the real main of a script in this process and an empty folder: script('train', 'a.yaml') -> code, out, err."""
    monkeypatch.chdir(tmp_path)

    def call(name: str, *args: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
        handler = signal.getsignal(signal.SIGTERM)
        capfd.readouterr()
        try:
            runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        finally:
            signal.signal(signal.SIGTERM, handler)
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return call


@pytest.fixture(scope="session")
def trained(synthetic, tmp_path_factory) -> SimpleNamespace:
    """A finished run of two tiny folds: its run folder, raw and prepared folders. Do not change it."""
    from maskfold.training.fit import fit_run

    home = tmp_path_factory.mktemp("학습 runs")
    config = tiny_config(synthetic, "--data.prepared", home / "prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SM_MODEL_DIR", str(home / "runs"))
        run, summary = fit_run(config, "tiny")
    return SimpleNamespace(
        run=run, summary=summary, config=config, raw=synthetic, prepared=home / "prepared", home=home
    )


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of the trained run, in which tests may write."""
    return Path(shutil.copytree(trained.run.folder, tmp_path / "runs" / "tiny"))


@pytest.fixture
def other(run, tmp_path) -> Path:
    """A second run with another seed and other predictions: the bias of its head is changed."""
    from safetensors.numpy import load_file, save_file

    from maskfold.fileio import sha256

    other = Path(shutil.copytree(run, tmp_path / "runs" / "other"))
    config = other / "config.yaml"
    config.write_text(config.read_text().replace("seed: 42\ndata:", "seed: 43\ndata:"))
    provenance = json.loads((other / "provenance.json").read_text())
    (other / "provenance.json").write_text(json.dumps(provenance | {"config_sha256": sha256(config)}))
    for fold in (0, 1):
        path = other / f"fold{fold}" / "model.safetensors"
        tensors = load_file(path)
        tensors["head.linear.bias"] = np.roll(tensors["head.linear.bias"], 1) + np.linspace(0, 2, 18, dtype=np.float32)
        save_file(tensors, path)
    return other


def tiny_args(raw: Path, *more: object) -> list[object]:
    """Arguments of train.py for a tiny run on `raw` with two folds."""
    return [ROOT / "configs" / "demo.yaml", *TINY, "--data.root", raw, "--data.folds", 2, *more]


def tiny_config(raw: Path, *more: object) -> Config:
    """The config of train.py with tiny_args(raw, *more)."""
    from maskfold.config.cli import Parser, add_config_flags, config_overrides
    from maskfold.config.yaml_file import load_config

    parser = Parser()
    add_config_flags(parser)
    config, *flags = map(str, tiny_args(raw, *more))
    return load_config(Path(config), config_overrides(parser.parse_args(flags)))


def first_quick(*values: object) -> list:
    """Values for parametrize: `make test` runs only the first one, `make test-all` all of them."""
    first, *others = values
    sets = [other if isinstance(other, tuple) else (other,) for other in others]
    return [first, *(pytest.param(*values, marks=pytest.mark.slow) for values in sets)]


def refused(result: SimpleNamespace, *words: str) -> None:
    """Assert that a call ended with a UserError: status 2 and one message, without a traceback, with all `words`."""
    assert result.code == 2, result.err
    assert result.err.count("error:") == 1
    assert "Traceback" not in result.err + result.out
    for word in words:
        assert word in result.err, f"{word!r} is not in: {result.err}"


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the number of cases that tests/fuzz has read, and their seconds, of all processes together."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    counted = [(report, dict(report.user_properties)) for report in reports if hasattr(report, "user_properties")]
    counted = [(report, values) for report, values in counted if "cases" in values]
    if not counted:
        return
    cases, seconds = (sum(values[name] for _, values in counted) for name in ("cases", "seconds"))
    slowest = max((values for _, values in counted), key=lambda values: values["slowest"])
    failed = sorted({values["target"] for report, values in counted if report.failed})
    terminalreporter.write_line(
        f"fuzz: {cases:,} cases in {seconds:,.0f} s of all processes together, seed {slowest['seed']}; the slowest took "
        f"{slowest['slowest']:.2f} s ({slowest['target']}); escapes in: {', '.join(failed) or 'none'}"
    )
