import pytest
import torch
from timm.utils import ModelEmaV3

from maskfold.config.experiment import Config, Data, Model
from maskfold.models.classifier import build_classifier
from maskfold.models.ema import ModelEma

DECAY = 0.75


class SharedLayer(torch.nn.Module):
    """Two blocks with one linear layer, and an empty tensor."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 3)
        self.second = self.first
        self.register_buffer("empty", torch.zeros(0))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))


def change(model, step):
    """New weights, the same in each call with this step."""
    torch.manual_seed(step)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape) if tensor.is_floating_point() else torch.tensor(step))


def test_a_shared_layer_is_averaged_once_per_update():
    torch.manual_seed(0)
    model = SharedLayer()
    ema, expected = ModelEma(model, DECAY), model.first.weight.detach().clone()
    for step in range(1, 4):
        change(model, step)
        ema.update(model)
        expected = DECAY * expected + (1 - DECAY) * model.first.weight.detach()
    assert ema.module.first is ema.module.second
    torch.testing.assert_close(ema.module.first.weight.detach(), expected)
    assert int(ema.module.updates) == 3


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext"])
def test_other_models_are_averaged_as_by_timm(backbone):
    """Bit for bit, with batch norm's statistics and its counter."""
    torch.manual_seed(0)
    model = build_classifier(Config(model=Model(backbone=backbone), data=Data(image_size=(32, 32))))
    ours, theirs = ModelEma(model, DECAY), ModelEmaV3(model, decay=DECAY)
    for step in range(1, 4):
        change(model, step)
        for ema in (ours, theirs):
            ema.update(model)
    expected = theirs.module.state_dict()
    for name, tensor in ours.module.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
