"""Heads: pooled features -> log-probabilities of the 18 classes."""

import torch
from torch import nn

from maskfold.config.experiment import Model
from maskfold.labels import AGE_GROUPS, GENDERS, MASKS, NUM_CLASSES, age_bins, age_group, joint_log_probs

Fine = tuple[torch.Tensor, torch.Tensor | None]


class JointHead(nn.Module):
    """Dropout and one layer of 18 logits; features [B, F] -> log-probabilities float32 [B, 18].

    The dropout is here rather than in the backbone, so that it acts on cached features as well.
    """

    def __init__(self, features: int, config: Model):
        super().__init__()
        self.dropout = nn.Dropout(config.drop_rate)
        self.linear = _linear(features, NUM_CLASSES, config)

    def forward(self, features: torch.Tensor, fine: bool = False) -> torch.Tensor | Fine:
        """With `fine`, (log-probabilities, None): it knows no ages."""
        # In float32 whatever the backbone computes in: bf16 keeps three digits, too few for a logit or a probability.
        with torch.autocast(features.device.type, enabled=False):
            log_probs = self.linear(self.dropout(features.float())).log_softmax(1)
        return (log_probs, None) if fine else log_probs


class FactoredHead(nn.Module):
    """Mask, gender and a distribution over bins of years, independent of each other given the photo.

    features [B, F] -> log-probabilities float32 [B, 18]: the sums of the axes' own, where an age group's probability is
    the sum of its bins'.
    """

    def __init__(self, features: int, config: Model):
        super().__init__()
        starts = age_bins(config.age_bin_years)
        self.dropout = nn.Dropout(config.drop_rate)
        self.sizes = (len(MASKS), len(GENDERS), len(starts))
        self.linear = _linear(features, sum(self.sizes), config)
        groups = age_group(starts)
        # How many bins each group has: they lie in order.
        self.bins = [int((groups == group).sum()) for group in range(len(AGE_GROUPS))]

    def forward(self, features: torch.Tensor, fine: bool = False) -> torch.Tensor | Fine:
        """With `fine`, (log-probabilities, log-probabilities of the age bins [B, A])."""
        with torch.autocast(features.device.type, enabled=False):
            logits = self.linear(self.dropout(features.float()))
        mask, gender, ages = (part.log_softmax(1) for part in logits.split(self.sizes, 1))
        groups = torch.stack([part.logsumexp(1) for part in ages.split(self.bins, 1)], 1)
        log_probs = joint_log_probs(mask, gender, groups)
        return (log_probs, ages) if fine else log_probs


def _linear(features: int, outputs: int, config: Model) -> nn.Linear:
    linear = nn.Linear(features, outputs)
    if config.head_init == "zero":
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    return linear


HEADS = {"joint": JointHead, "factored": FactoredHead}
