"""timm without torchvision, W&B and torch's compiler: the same models, and the real libraries afterwards."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from maskfold.training.optim import _step_without_compiler


def in_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_libraries_that_were_left_out_can_be_imported_afterwards():
    out = in_new_process("""
import sys
from maskfold.models.timm_library import prepare_compiler, timm
absent = ("torchvision", "torchvision.ops.misc", "timm.data", "wandb", "torch._dynamo")
print([name for name in absent if name in sys.modules])
import timm.data, torch, torchvision
print(callable(timm.data.create_loader), torchvision.ops.misc.FrozenBatchNorm2d(3).eps > 0)
# kron sets it when timm is imported the usual way.
prepare_compiler()
print(torch._dynamo.config.cache_size_limit, callable(torch.compiler.disable(len)))
""")
    assert out.splitlines() == ["[]", "True True", "1000000 True"]


@pytest.mark.slow
def test_what_was_left_out_works_after_a_plain_import_of_timm():
    """Other code in the process, such as a notebook, imports timm the usual way."""
    out = in_new_process("""
import maskfold.models.timm_library
import sys, timm, timm.layers, torch
print("timm.data" in sys.modules, hasattr(timm, "no_such_name"))
print(callable(timm.data.create_transform), timm.data.IMAGENET_DEFAULT_MEAN[0])
layers = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
frozen = timm.layers.freeze_batch_norm_2d(layers)[0]
print(type(frozen).__module__, tuple(frozen(torch.ones(1, 3, 2, 2)).shape))
print(type(timm.layers.unfreeze_batch_norm_2d(layers)[0]).__name__)
""")
    assert out.splitlines() == ["False False", "True 0.485", "torchvision.ops.misc (1, 3, 2, 2)", "BatchNorm2d"]


@pytest.mark.slow
def test_functions_of_timm_that_need_the_hidden_modules_work():
    """Features by name, the optimiser muon on sharded tensors, and the log to W&B."""
    out = in_new_process("""
from maskfold.models.timm_library import timm
import sys, tempfile, types, torch
hidden = ("torchvision.models.feature_extraction", "torch.distributed.tensor", "wandb")
print([name for name in hidden if name in sys.modules])
model = timm.create_model("test_resnet", features_only=True, feature_cls="fx")
print(type(model).__name__, [feature.shape[1] for feature in model(torch.ones(1, 3, 64, 64))] == model.feature_info.channels())
muon = sys.modules["timm.optim.muon"]
print(muon.has_dtensor, isinstance(torch.ones(1), muon.DTensor))
sys.modules["torch.distributed.tensor"] = types.SimpleNamespace(DTensor=torch.Tensor)
print(isinstance(torch.ones(1), muon.DTensor))
logged = []
sys.modules["wandb"] = types.SimpleNamespace(log=logged.append)
with tempfile.TemporaryDirectory() as folder:
    timm.utils.update_summary(1, {}, {}, folder + "/summary.csv", log_wandb=True)
print(logged[0]["epoch"])
""")
    assert out.splitlines() == ["[]", "FeatureGraphNet True", "True False", "True", "1"]


@pytest.mark.slow
def test_models_equal_those_of_a_usual_import():
    code = """
import hashlib, {first}
from maskfold.models.timm_library import timm
import torch
torch.manual_seed(0)
model = timm.create_model("test_resnet", num_classes=3)
out = model.eval()(torch.randn(2, 3, 32, 32))
print(hashlib.sha256(out.detach().numpy().tobytes()).hexdigest(), timm.list_models() == sorted(timm.list_models()), len(timm.list_models()))
"""
    assert in_new_process(code.format(first="sys")) == in_new_process(code.format(first="timm.data"))


@pytest.mark.parametrize("optimizer_type", [torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
def test_steps_without_marks_for_the_compiler_are_the_same(optimizer_type):
    def weights(cls, replace: bool) -> list[np.ndarray]:
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 2)
        optimizer = cls(model.parameters(), lr=0.1)
        if replace:
            _step_without_compiler(cls)
        called = []
        optimizer.register_step_post_hook(lambda *_: called.append(1))
        for _ in range(3):
            model(torch.ones(3, 4)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert len(called) == 3
        return [parameter.detach().numpy().copy() for parameter in model.parameters()]

    # Subclasses, so that the wrapper of torch's own class stays.
    before = weights(type("Before", (optimizer_type,), {}), False)
    after = weights(type("After", (optimizer_type,), {}), True)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
