"""Heads: pooled features -> log-probabilities of the 18 classes."""

import torch
from torch import nn

from maskfold.config.experiment import Model
from maskfold.labels import AGE_GROUPS, GENDERS, MASKS, NUM_CLASSES, age_bins, age_group, joint_log_probs

# (log-probabilities of the classes [B, 18], log-probabilities of the A age bins [B, A]). The second element is None if
# the head has no age bins.
HeadOutput = tuple[torch.Tensor, torch.Tensor | None]


class JointHead(nn.Module):
    """Dropout and one linear layer: features [B, F] -> log-probabilities float32 [B, 18].

    Dropout is in the head, not in the backbone, so that it also acts on cached features.
    """

    def __init__(self, features: int, config: Model):
        super().__init__()
        self.dropout = nn.Dropout(config.drop_rate)
        self.linear = _linear(features, NUM_CLASSES, config)

    def forward(self, features: torch.Tensor, with_ages: bool = False) -> torch.Tensor | HeadOutput:
        """Return log-probabilities; if with_ages is set, (log-probabilities, None), as this head predicts no ages."""
        # Logits are always float32, even if the backbone runs in bf16, whose three significant digits are too few.
        with torch.autocast(features.device.type, enabled=False):
            log_probs = self.linear(self.dropout(features.float())).log_softmax(1)
        return (log_probs, None) if with_ages else log_probs


class FactoredHead(nn.Module):
    """Separate softmaxes for mask, gender and age bins: features [B, F] -> log-probabilities float32 [B, 18].

    Mask, gender and age are modelled as independent given the photo, so the log-probability of a class is the sum of
    three log-probabilities. The probability of an age group is the sum over its bins.
    """

    def __init__(self, features: int, config: Model):
        super().__init__()
        starts = age_bins(config.age_bin_years)
        self.dropout = nn.Dropout(config.drop_rate)
        self.sizes = (len(MASKS), len(GENDERS), len(starts))
        self.linear = _linear(features, sum(self.sizes), config)
        groups = age_group(starts)
        # Number of bins per age group. The bins are sorted by age.
        self.bins_per_group = [int((groups == group).sum()) for group in range(len(AGE_GROUPS))]

    def forward(self, features: torch.Tensor, with_ages: bool = False) -> torch.Tensor | HeadOutput:
        """Return log-probabilities; if with_ages is set, also the log-probabilities of the age bins [B, A]."""
        with torch.autocast(features.device.type, enabled=False):
            logits = self.linear(self.dropout(features.float()))
        mask, gender, ages = (part.log_softmax(1) for part in logits.split(self.sizes, 1))
        groups = torch.stack([part.logsumexp(1) for part in ages.split(self.bins_per_group, 1)], 1)
        log_probs = joint_log_probs(mask, gender, groups)
        return (log_probs, ages) if with_ages else log_probs


def _linear(features: int, outputs: int, config: Model) -> nn.Linear:
    linear = nn.Linear(features, outputs)
    if config.head_init == "zero":
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    return linear


# Values of model.head.
HEADS = {"joint": JointHead, "factored": FactoredHead}
