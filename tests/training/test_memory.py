"""Memory of finished folds and of models that have predicted is freed."""

import gc
import os
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT

import maskfold.runs.part_predictions as part_predictions
import maskfold.training.fit as fit_module
from maskfold.config.cli import Parser, add_config_flags, config_overrides
from maskfold.config.experiment import Config, replaced
from maskfold.config.yaml_file import load_config
from maskfold.inference.predict_members import Member, predict_members
from maskfold.runs.run_folder import RunFolder
from maskfold.training import fold_trainer
from maskfold.training.accelerators import make_accelerator
from maskfold.training.fit import fit_run
from maskfold.training.fold_job import TrainRequest

SMALL = ["--model.backbone", "test_convnext", "--data.image_size", "32", "32", "--optim.epochs", "1"]


def config_of(raw: Path, home: Path, *more: object) -> Config:
    parser = Parser()
    add_config_flags(parser)
    words = [*SMALL, "--optim.warmup_epochs", "0", "--run.wandb", "disabled", "--run.device", "cpu", "--data.root", raw]
    words += ["--data.prepared", home / "prepared", *more]
    return load_config(
        ROOT / "configs" / "demo.yaml", config_overrides(parser.parse_args([str(word) for word in words]))
    )


def after_each_fold(monkeypatch, measure) -> list:
    """Collect measure(accelerator) after each run_job."""
    run_job, make, made, measured = fit_module.run_job, fold_trainer.make_accelerator, [], []

    def measuring(job, **more):
        run_job(job, **more)
        measured.append(measure(made[-1]))

    monkeypatch.setattr(fold_trainer, "make_accelerator", lambda config: made.append(make(config)) or made[-1])
    monkeypatch.setattr(fit_module, "run_job", measuring)
    return measured


def tensor_bytes(accelerator) -> tuple[int, int]:
    """Bytes of the parameters of the accelerator's optimisers, and of all tensors that Python's gc tracks."""
    optimizer_bytes = sum(p.nbytes for o in accelerator._optimizers for g in o.param_groups for p in g["params"])
    # Compared by exact type, because torch.compile keeps fake tensors, which have no memory.
    return optimizer_bytes, sum(t.nbytes for t in gc.get_objects() if type(t) in (torch.Tensor, torch.nn.Parameter))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    "more",
    [
        ("--optim.ema_decay", 0.9),
        pytest.param(("--optim.ema_decay", 0), marks=pytest.mark.slow),
        pytest.param(("--model.frozen_epochs", "all"), marks=pytest.mark.slow),
        pytest.param(("--run.keep", "soup", "--data.num_workers", 1), marks=pytest.mark.slow),
        # Compiling takes minutes.
        pytest.param(("--run.compile", "true", "--model.backbone", "test_resnet"), marks=pytest.mark.long),
    ],
    ids=lambda more: " ".join(map(str, more)),
)
def test_a_finished_fold_leaves_no_tensors(synthetic, tmp_path, monkeypatch, more):
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "runs"))
    gc.collect()
    before = tensor_bytes(make_accelerator(config_of(synthetic, tmp_path, "--run.precision", "fp32")))
    measured = after_each_fold(monkeypatch, tensor_bytes)
    fit_run(config_of(synthetic, tmp_path, "--data.folds", 3, *more), "run")
    assert len(measured) == 3
    assert len(set(measured)) == 1
    # torch.compile keeps a few small tensors.
    assert [after - first for after, first in zip(measured[0], before, strict=True)] <= [0, 1000]


def test_pseudo_labelling_models_are_freed(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "runs"))
    config = replaced(trained.config, pseudo={"runs": (str(trained.run.folder),), "threshold": 0.01})
    gc.collect()
    before = tensor_bytes(make_accelerator(replaced(config, run={"precision": "fp32"})))
    measured = after_each_fold(monkeypatch, tensor_bytes)
    fit_run(config, "pseudo")
    assert measured == [before] * 2


def test_a_failed_fold_is_freed_too(synthetic, tmp_path, monkeypatch):
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "runs"))
    accelerators = []
    inner = fold_trainer.make_accelerator
    monkeypatch.setattr(
        fold_trainer, "make_accelerator", lambda config: accelerators.append(inner(config)) or accelerators[-1]
    )
    with pytest.raises(Exception, match=r"optim\.lr"):
        fit_run(config_of(synthetic, tmp_path, "--data.folds", 2, "--optim.lr", 1e30, "--optim.epochs", 2), "diverges")
    assert [len(accelerator._optimizers) for accelerator in accelerators] == [0]


def test_models_are_loaded_when_needed_and_freed_after_predicting(trained, tmp_path, monkeypatch):
    """Two members with different batch sizes: the first one's models are freed before the second one's are loaded."""
    models, alive = [], []
    finished_model, predict = part_predictions.finished_model, part_predictions.predict

    def tracked(*args):
        models.append(weakref.ref(model := finished_model(*args)))
        return model

    def predicting(used, *rest):
        alive.append((len(used), sum(model() is not None for model in models)))
        return predict(used, *rest)

    monkeypatch.setattr(part_predictions, "finished_model", tracked)
    monkeypatch.setattr(part_predictions, "predict", predicting)
    config = trained.run.config
    first = Member(trained.run, config, fit_module.ensure_prepared(config.data), None)
    copied = RunFolder(Path(shutil.copytree(trained.run.folder, tmp_path / "copied")))
    other = replace(first, run=copied, config=replaced(config, optim={"batch_size": 7}))
    predict_members([first, other], ("none",))
    # Each member's two models predict the eval photos together, then each predicts its own fold.
    assert [count for count, _ in alive] == [2, 1, 1, 2, 1, 1]
    assert [there for _, there in alive] == [2, 2, 1, 2, 2, 1]
    assert len(models) == 4
    assert not any(model() is not None for model in models)


def test_one_process_can_train_in_several_precisions(synthetic, tmp_path, monkeypatch):
    """As in a notebook: Accelerate's shared state accepts the second precision."""
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "runs"))
    seen = after_each_fold(monkeypatch, lambda accelerator: accelerator.mixed_precision)
    for name in ("bf16", "fp32"):
        fit_run(config_of(synthetic, tmp_path, "--data.folds", 2, "--run.precision", name), name, TrainRequest([0]))
    assert seen == ["bf16", "no"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_resident_memory_does_not_grow(synthetic, tmp_path, monkeypatch):
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "runs"))
    measured = after_each_fold(monkeypatch, lambda accelerator: resident())
    fit_run(
        config_of(
            synthetic, tmp_path, "--data.folds", 5, "--model.backbone", "resnet18", "--model.pretrained", "false"
        ),
        "r",
    )
    assert measured[4] < 1.05 * measured[1]
