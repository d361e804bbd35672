"""optim.accum_steps auto: the search with a simulated memory limit on a CPU, and what the run records."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import yaml
from conftest import first_quick, refused, tiny_args, tiny_config
from support import same_run

from maskfold.errors import UserError
from maskfold.models.classifier import Classifier
from maskfold.runs.run_folder import RunFolder
from maskfold.training import accum_steps
from maskfold.training.accum_steps import find_accum_steps, memory_limit, resolve_accum_steps

CPU = torch.device("cpu")


@pytest.fixture
def memory(monkeypatch):
    """Let the memory hold only this many photos of a micro-batch in training: memory(4) -> list of the sizes tried."""

    def limit(photos):
        sizes, real = [], Classifier.forward

        def forward(self, images, with_ages=False):
            if self.training:
                sizes.append(len(images))
                if len(images) > photos:
                    raise torch.OutOfMemoryError("CUDA out of memory")
            return real(self, images, with_ages)

        monkeypatch.setattr(Classifier, "forward", forward)
        return sizes

    return limit


@pytest.fixture
def measured(monkeypatch):
    """Measure on the CPU, as on a GPU."""
    monkeypatch.setattr(accum_steps, "is_measured", lambda config, device: not config.uses_cached_features)
    monkeypatch.setattr(accum_steps, "_limited_memory", lambda *_: nullcontext())


def resolved(raw, *more):
    return tiny_config(raw, "--run.precision", "fp32", "--run.predict_precision", "fp32", *more)


@pytest.mark.parametrize(
    ("batch_size", "limit", "expected"),
    first_quick((12, 5, 3), (12, 12, 1), (12, 11, 2), (12, 4, 3), (12, 3, 4), (12, 1, 12), (7, 6, 7), (1, 1, 1)),
)
def test_the_fewest_equal_micro_batches_that_fit(synthetic, memory, batch_size, limit, expected):
    """12 photos can be split into micro-batches of 12, 6, 4, 3, 2 and 1; 7 photos into one or seven."""
    sizes = memory(limit)
    assert find_accum_steps(resolved(synthetic, "--optim.batch_size", batch_size), CPU) == expected
    tried = [batch_size // number for number in range(1, expected + 1) if batch_size % number == 0]
    assert list(dict.fromkeys(sizes)) == tried
    # Two whole updates with the result: the optimiser allocates its state in the first one.
    assert sizes.count(batch_size // expected) == 2 * expected


@pytest.mark.parametrize(
    "more",
    [
        ("--mix.name", "mixup"),
        ("--loss.name", "soft_f1"),
        ("--optim.ema_decay", 0.9, "--model.head", "factored", "--loss.age_weight", 1),
        ("--model.backbone", "test_resnet", "--run.precision", "bf16"),
    ],
)
def test_mixing_losses_ema_and_precision_are_those_of_the_run(synthetic, memory, more):
    memory(4)
    assert find_accum_steps(resolved(synthetic, "--optim.batch_size", 8, *more), CPU) == 2


def test_a_backbone_that_is_frozen_at_the_end_is_not_trained(synthetic, monkeypatch):
    """frozen_epochs all without cached features; with frozen_epochs 1 of 2 the backbone is trained."""
    seen, real = [], accum_steps.training_step

    def record(state, *rest):
        seen.append(any(p.requires_grad for p in state.model.backbone.parameters()))
        return real(state, *rest)

    monkeypatch.setattr(accum_steps, "training_step", record)
    for frozen, is_trained in (("all", False), (1, True), (2, False)):
        frozen_keys = ("--model.frozen_epochs", frozen, "--model.cache_features", "false")
        find_accum_steps(resolved(synthetic, *frozen_keys), CPU)
        assert set(seen) == {is_trained}, frozen
        seen.clear()


def test_a_model_that_does_not_fit_with_one_photo_is_an_error(synthetic, memory):
    memory(0)
    with pytest.raises(UserError, match=r"optim\.accum_steps.*test_convnext.*one photo of 32x32"):
        find_accum_steps(resolved(synthetic, "--optim.batch_size", 4), CPU)


def test_a_batch_that_does_not_fit_in_the_prediction_is_an_error(synthetic, monkeypatch):
    """The validation predicts whole batches, so micro-batches do not help. The limit is reached by 5 photos."""
    sizes, real = [], Classifier.forward

    def forward(self, images, with_ages=False):
        if not self.training:
            assert torch.is_inference_mode_enabled()
            sizes.append(len(images))
            if len(images) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, images, with_ages)

    monkeypatch.setattr(Classifier, "forward", forward)
    assert find_accum_steps(resolved(synthetic, "--optim.batch_size", 4), CPU) == 1
    with pytest.raises(UserError, match=r"optim\.batch_size.*5 photos of 32x32 with test_convnext"):
        find_accum_steps(resolved(synthetic, "--optim.batch_size", 5), CPU)
    assert sizes == [4, 5]


def test_other_errors_are_not_taken_for_a_lack_of_memory(synthetic, monkeypatch):
    def fail(*_):
        raise RuntimeError("another error")

    monkeypatch.setattr(accum_steps, "training_step", fail)
    with pytest.raises(RuntimeError, match="another error"):
        find_accum_steps(resolved(synthetic), CPU)


def test_on_a_cpu_and_with_cached_features_auto_is_one(synthetic, memory):
    sizes = memory(0)
    for more in ((), ("--model.frozen_epochs", "all")):
        config = resolved(synthetic, "--optim.accum_steps", "auto", *more)
        assert resolve_accum_steps(config, CPU).optim.accum_steps == 1
    cached = resolved(synthetic, "--optim.accum_steps", "auto", "--model.frozen_epochs", "all")
    assert resolve_accum_steps(cached, torch.device("cuda")).optim.accum_steps == 1
    assert sizes == []
    fixed = resolved(synthetic, "--optim.accum_steps", 3)
    assert resolve_accum_steps(fixed, torch.device("cuda")) is fixed


def test_a_run_records_the_number_and_equals_one_with_that_number(script, synthetic, memory, measured):
    """Two micro-batches of 8 fit. A resumed run keeps the number, whatever the memory is then."""
    prepared = ("--data.prepared", "p")
    memory(8)
    done = script("train", *tiny_args(synthetic, *prepared, "--name", "auto", "--optim.accum_steps", "auto"))
    assert done.code == 0, done.err
    assert "optim.accum_steps auto: 2 (micro-batches of 8 photos)" in done.err
    done = script("train", *tiny_args(synthetic, *prepared, "--name", "fixed", "--optim.accum_steps", 2))
    assert done.code == 0, done.err
    auto, fixed = (RunFolder(Path("runs") / name) for name in ("auto", "fixed"))
    same_run(auto.folder, fixed.folder)
    assert yaml.safe_load((auto.folder / "config.yaml").read_text())["optim"]["accum_steps"] == 2
    assert auto.provenance["config_hash"] == fixed.provenance["config_hash"]
    memory(1)
    for name in ("auto", "fixed"):
        done = script("train", *tiny_args(synthetic, *prepared, "--name", name, "--optim.accum_steps", "auto"))
        assert done.code == 0, done.err
        assert "accum_steps" not in done.err
    args = tiny_args(synthetic, *prepared, "--name", "auto", "--optim.accum_steps", 4)
    refused(script("train", *args), "optim.accum_steps", "started with 2", "now 4")


GIB = 2**30


@pytest.mark.parametrize(
    ("free", "reserved", "num_parallel", "num_gpus", "expected"),
    [
        # 90 % of the free memory, in addition to what the process has reserved.
        (10, 0, 1, 1, 9),
        (10, 2, 1, 1, 11),
        (10, 0, 1, 8, 9),
        # Two folds on one GPU have two more CUDA contexts of up to 1 GiB: 0.9 * (12 - 2) / 2.
        (12, 0, 2, 1, 4.5),
        # Five folds on two GPUs: three on the first one, 0.9 * (23 - 3) / 3.
        (23, 1, 5, 2, 7),
        (2, 0, 4, 1, 0),
    ],
)
def test_the_memory_limit_of_a_process(free, reserved, num_parallel, num_gpus, expected):
    limit = memory_limit(free * GIB, reserved * GIB, num_parallel, num_gpus)
    assert limit == pytest.approx(expected * GIB)


@pytest.mark.slow
def test_repeats_have_the_number_of_the_run_that_was_started_first(script, synthetic, measured, monkeypatch):
    """The second measurement would give another number, and runs with different numbers are no repeats."""
    numbers = iter([2, 4])
    monkeypatch.setattr(accum_steps, "find_accum_steps", lambda *_: next(numbers))
    args = tiny_args(synthetic, "--name", "r", "--optim.accum_steps", "auto", "--optim.epochs", 1, "--folds", 0)
    # Seed 3 is new, and the first one of the second command.
    for seeds in ((1, 2), (3, 1)):
        done = script("train", *args, "--seeds", *seeds)
        assert done.code == 0, done.err
    configs = [RunFolder(Path("runs") / f"r-s{seed}").config for seed in (1, 2, 3)]
    assert [config.optim.accum_steps for config in configs] == [2, 2, 2]


@pytest.mark.slow
def test_nothing_is_deleted_if_the_model_does_not_fit(script, synthetic, memory, measured):
    args = tiny_args(synthetic, "--name", "kept", "--folds", 0, "--optim.epochs", 1)
    assert script("train", *args).code == 0
    before = Path("runs/kept/fold0/model.safetensors").read_bytes()
    memory(0)
    refused(script("train", *args, "--fresh", "--optim.accum_steps", "auto"), "optim.accum_steps", "one photo")
    assert Path("runs/kept/fold0/model.safetensors").read_bytes() == before
