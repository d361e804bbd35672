"""Losses on log-probabilities, as a part's share of its whole batch: however it is split, its gradients add up."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from maskfold.config.experiment import Loss
from maskfold.labels import NUM_CLASSES
from maskfold.models.heads import Fine
from maskfold.models.targets import Targets


class Totals(NamedTuple):
    """Over a whole batch, a class each: float32 [18] what is predicted of it, is so, and is both."""

    predicted: torch.Tensor
    true: torch.Tensor
    hit: torch.Tensor


def smoothed(classes: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Shares [B, 18] -> 1 - smoothing of each, and smoothing of the row's sum spread evenly over all 18."""
    return classes * (1 - smoothing) + classes.sum(1, keepdim=True) * (smoothing / NUM_CLASSES)


def cross_entropy(log_probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log_probs, targets [B, 18] -> [B]."""
    return -(targets * log_probs).sum(1)


def focal(log_probs: torch.Tensor, targets: torch.Tensor, gamma: float) -> torch.Tensor:
    """-sum t (1 - p)^gamma log p, [B, 18] -> [B] (Lin et al. 2017, Focal Loss for Dense Object Detection, eq. 4)."""
    # 1 - p from log p, and a floor under it: at p = 1 the power's gradient would be infinite for gamma < 1.
    missing = (-torch.expm1(log_probs)).clamp(min=torch.finfo(log_probs.dtype).eps)
    return -(targets * missing**gamma * log_probs).sum(1)


def f1_totals(log_probs: torch.Tensor, classes: torch.Tensor) -> Totals:
    """Sums over photos of p, t and p * t; log_probs, classes [B, 18]. A photo counts by its shares' sum."""
    probs = log_probs.exp()
    return Totals((probs * classes.sum(1, keepdim=True)).sum(0), classes.sum(0), (probs * classes).sum(0))


def soft_f1(part: Totals, whole: Totals) -> torch.Tensor:
    """A part's share of 1 - mean over the classes of (2 hit + 1) / (predicted + true + 1), of the whole batch.

    Macro F1 with probabilities for decisions. The ones make an absent class, of which nothing is predicted, a
    full success rather than 0 / 0, and leave it a gradient: what is predicted of it costs. F1 is no sum over photos,
    but its gradient is: the whole's totals are constants in it, so parts that know them add up to it exactly.
    """
    size = (whole.predicted + whole.true + 1).detach()
    score = ((2 * whole.hit + 1) / size).detach()
    # By the quotient rule: the numerator's own slope, and the denominator's, which adds nothing to the value.
    by_size = score / size * part.predicted
    share = part.true.sum() / whole.true.sum()
    return share * (1 - 1 / size).mean() - (2 * part.hit / size - by_size + by_size.detach()).mean()


def class_weights(config: Loss, counts: np.ndarray) -> torch.Tensor:
    """Photos a class [18] -> weights float32 [18] whose mean over those photos is 1; 0 for a class without photos.

    inverse: 1 / n; effective: (1 - b) / (1 - b^n) (Cui et al. 2019, Class-Balanced Loss, eq. 6).
    """
    counts = np.asarray(counts, float)
    raw = np.where(counts > 0, CLASS_WEIGHTS[config.class_weights](np.maximum(counts, 1), config), 0)
    return torch.tensor(raw * counts.sum() / (raw * counts).sum(), dtype=torch.float32)


# What loss.class_weights names: photos a class [18], at least 1 -> weights [18] up to a factor.
CLASS_WEIGHTS: dict[str, Callable[[np.ndarray, Loss], np.ndarray]] = {
    "none": lambda counts, config: np.ones_like(counts),
    "inverse": lambda counts, config: 1 / counts,
    "effective": lambda counts, config: (1 - config.effective_beta) / (1 - config.effective_beta**counts),
}

# What loss.name and loss.plus name. Of a photo: log_probs, targets [B, 18] -> [B].
PHOTO_LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, Loss], torch.Tensor]] = {
    "cross_entropy": lambda log_probs, targets, config: cross_entropy(log_probs, targets),
    "focal": lambda log_probs, targets, config: focal(log_probs, targets, config.gamma),
}
# Of a batch: Totals of a part, and of its whole batch -> the part's share.
BATCH_LOSSES: dict[str, Callable[[Totals, Totals], torch.Tensor]] = {"soft_f1": soft_f1}


class BatchLoss:
    """The configured loss. `needs_totals`: whether a part must know its whole batch's Totals."""

    def __init__(self, config: Loss, counts: np.ndarray, device: torch.device | str = "cpu"):
        self.config, self.weights = config, class_weights(config, counts).to(device)
        self.terms: dict[str, float] = {config.name: 1.0}
        if config.plus is not None:
            self.terms[config.plus] = self.terms.get(config.plus, 0.0) + config.plus_weight
        self.needs_totals = any(name in BATCH_LOSSES for name in self.terms)

    def __call__(self, output: Fine, targets: Targets, size: int, whole: Totals | None = None) -> torch.Tensor:
        """A part's share of the batch's loss: sum(w * l) / size, and of soft F1 what soft_f1 says.

        output: what the model says of the part, with `fine`; size: photos of the whole batch.
        """
        log_probs, ages = output
        aims = smoothed(targets.classes * self.weights, self.config.label_smoothing)
        each = log_probs.new_zeros(len(log_probs))
        for name, photo_loss in PHOTO_LOSSES.items():
            if weight := self.terms.get(name):
                each = each + weight * photo_loss(log_probs, aims, self.config)
        if self.config.age_weight:
            each = each + self.config.age_weight * cross_entropy(ages, targets.ages)
        loss = each.sum() / size
        for name, batch_loss in BATCH_LOSSES.items():
            if weight := self.terms.get(name):
                part = f1_totals(log_probs, targets.classes)
                loss = loss + weight * batch_loss(part, part if whole is None else whole)
        return loss
