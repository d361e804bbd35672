"""The exponential moving average (EMA) of a model's weights."""

import torch
from timm.utils import ModelEmaV3


class ModelEma(ModelEmaV3):
    """timm's ModelEmaV3 with a fix for tensors that share memory.

    A layer that two blocks share has two names in the state dict. timm 1.0.31 updates the layer's average once per
    name, which squares the decay.
    """

    def __init__(self, model: torch.nn.Module, decay: float):
        super().__init__(model, decay=decay)
        # Keep one name per group of tensors that share memory. self.module is a copy of the model with the same groups.
        name_by_address: dict[tuple[int, int], str] = {}
        for name, tensor in self.module.state_dict().items():
            name_by_address.setdefault((tensor.data_ptr(), tensor.numel()), name)
        self.names = tuple(name_by_address.values())

    def apply_update_(self, model: torch.nn.Module, decay: float) -> None:
        """Average floating-point tensors and copy the others. ModelEmaV3.update calls this method."""
        averages, tensors = self.module.state_dict(), model.state_dict()
        floating = [name for name in self.names if averages[name].is_floating_point()]
        for name in set(self.names) - set(floating):
            averages[name].copy_(tensors[name])
        # One call for all tensors launches far fewer GPU kernels than one call per tensor.
        torch._foreach_lerp_(
            [averages[name] for name in floating], [tensors[name] for name in floating], weight=1.0 - decay
        )
