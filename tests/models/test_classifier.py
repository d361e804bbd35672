"""Memory layout of a classifier."""

import subprocess
import sys

import pytest
import torch
from support import PATIENCE
from torch import nn

from maskfold.config.experiment import Config, Data, Model
from maskfold.models.classifier import build_classifier

CONFIG = """
import torch
from maskfold.config.experiment import Config, Data, Model
from maskfold.models.classifier import build_classifier
config = Config(model=Model(backbone="mobileone_s0"), data=Data(image_size=(64, 64)))
"""


def build(name: str) -> nn.Module:
    return build_classifier(Config(model=Model(backbone=name), data=Data(image_size=(64, 64))))


def test_parameters_of_five_dimensions_keep_their_layout():
    model = build("lambda_resnet26t")
    assert any(tensor.dim() == 5 for tensor in model.parameters())
    images = [tensor for tensor in model.parameters() if tensor.dim() == 4]
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in images)


def test_strided_1x1_convolutions_of_few_channels_are_not_channels_last():
    """oneDNN writes beyond its buffer in their backward pass, which crashes the process later."""
    model, layouts = build("mobileone_s0"), []

    def record_layout(conv, inputs, _output):
        layouts.append((conv.in_channels // conv.groups, inputs[0].is_contiguous(), conv.weight.is_contiguous()))

    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (1, 1) and conv.stride == (2, 2):
            conv.register_forward_hook(record_layout)
    model(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert any(channels == 3 for channels, *_ in layouts)
    assert all(inputs and weight for channels, inputs, weight in layouts if channels < 16)


@pytest.mark.slow
def test_a_model_with_such_a_convolution_trains_without_a_crash():
    code = (
        CONFIG
        + """
model = build_classifier(config).train()
for _ in range(8):
    model(torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)).mean().backward()
"""
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
