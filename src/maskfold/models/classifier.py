"""The whole model: normalisation, backbone, head."""

from itertools import chain

import torch
from torch import nn

from maskfold.config.experiment import Config
from maskfold.errors import UserError
from maskfold.models.architecture import Architecture, find_architecture
from maskfold.models.backbone import build_backbone
from maskfold.models.heads import HEADS, HeadOutput

# oneDNN's channel block size with AVX-512, the larger of its two block sizes. See _corrupts_memory.
MIN_CHANNELS_LAST = 16


class Classifier(nn.Module):
    """RGB images [B, 3, H, W], uint8 or float, 0 to 255 -> log-probabilities float32 [B, 18].

    The model normalises with the backbone's own mean and std, so that no caller can forget to normalise or do it twice.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone, self.head, self.frozen = backbone, head, False
        self.architecture: Architecture | None = None
        for name in ("mean", "std"):
            value = torch.tensor(backbone.pretrained_cfg[name]).view(1, 3, 1, 1) * 255
            self.register_buffer(name, value, persistent=False)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W], 0 to 255 -> float32 [B, 3, H, W], normalised with the backbone's mean and std."""
        images = images.to(torch.float32, memory_format=torch.channels_last, copy=True)
        return images.sub_(self.mean).div_(self.std)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W], 0 to 255 -> the backbone's pooled features [B, F]."""
        return self.backbone(self.normalise(images))

    def forward(self, images: torch.Tensor, with_ages: bool = False) -> torch.Tensor | HeadOutput:
        """Return log-probabilities [B, 18], or a HeadOutput for the losses if with_ages is set."""
        return self.head(self.features(images), with_ages)

    def freeze_backbone(self, frozen: bool) -> None:
        """Freeze or unfreeze the backbone, including the running statistics of batch norm."""
        self.frozen = frozen
        self.backbone.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self


def build_classifier(config: Config, architecture: Architecture | None = None) -> Classifier:
    """Build the configured model on the CPU. Random weights come from torch's global random number generator.

    architecture: for example, that of a finished model; if None, the one that model.backbone names.
    """
    architecture = architecture or find_architecture(config.model.backbone)
    backbone = build_backbone(config.model, config.data, architecture)
    if config.model.grad_checkpointing:
        try:
            backbone.set_grad_checkpointing(True)
        except (AssertionError, AttributeError, NotImplementedError) as error:
            raise UserError(
                f"model.grad_checkpointing: {config.model.backbone} does not support it; set it to false"
            ) from error
    model = Classifier(backbone, HEADS[config.model.head](backbone.head_hidden_size, config.model))
    model.architecture = architecture
    _channels_last(model)
    return model


def _channels_last(model: nn.Module) -> None:
    """Convert 4-D tensors to channels_last for speed, except convolution weights for which this would corrupt memory.

    This is a loop, because model.to(memory_format=torch.channels_last) fails on 5-D tensors (timm's LambdaLayer).
    """
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and _corrupts_memory(conv):
            conv.weight.data = conv.weight.data.contiguous()
            conv.register_forward_pre_hook(_contiguous_input)


def _corrupts_memory(conv: nn.Conv2d) -> bool:
    """Whether the backward pass of `conv` in channels_last on a CPU overruns a buffer (uxlfoundation/oneDNN#6035)."""
    return max(conv.kernel_size) == 1 and max(conv.stride) > 1 and conv.in_channels // conv.groups < MIN_CHANNELS_LAST


def _contiguous_input(conv: nn.Conv2d, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (inputs[0].contiguous(), *inputs[1:]) if inputs[0].device.type == "cpu" else inputs
