"""The whole model: normalisation, backbone, head."""

import torch
from torch import nn

from maskfold.config import Config
from maskfold.models.backbone import build_backbone
from maskfold.models.heads import HEADS


class Classifier(nn.Module):
    """uint8 RGB [B, 3, H, W] -> log-probabilities float32 [B, 18].

    Normalisation with the backbone's own mean and std is its first step: no path can leave it out or do it twice.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head
        for name in ("mean", "std"):
            value = torch.tensor(backbone.pretrained_cfg[name]).view(1, 3, 1, 1) * 255
            self.register_buffer(name, value, persistent=False)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 3, H, W] -> float32, zero mean and unit variance by the backbone's statistics."""
        images = images.to(torch.float32, memory_format=torch.channels_last)
        return (images - self.mean) / self.std

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(self.normalise(images)))


def build_classifier(config: Config) -> Classifier:
    """The model that the config describes, on the CPU, initialised from torch's global generator."""
    backbone = build_backbone(config.model, config.data)
    model = Classifier(backbone, HEADS[config.model.head](backbone.head_hidden_size))
    return model.to(memory_format=torch.channels_last)
