"""Heads: pooled features -> log-probabilities of the 18 classes."""

import torch
from torch import nn

from maskfold.labels import NUM_CLASSES


class JointHead(nn.Module):
    """Dropout and one layer of 18 logits; features [B, F] -> log-probabilities float32 [B, 18].

    The dropout is here rather than in the backbone, so that it acts on cached features as well.
    """

    def __init__(self, features: int, drop_rate: float = 0.0):
        super().__init__()
        self.dropout = nn.Dropout(drop_rate)
        self.linear = nn.Linear(features, NUM_CLASSES)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        # In float32 whatever the backbone computes in: bf16 keeps three digits, too few for a logit or a probability.
        with torch.autocast(features.device.type, enabled=False):
            return self.linear(self.dropout(features.float())).log_softmax(1)


HEADS = {"joint": JointHead}
