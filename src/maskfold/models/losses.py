"""Losses on log-probabilities. A micro-batch computes its share of the batch's loss, so that the gradients add up."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from maskfold.config.experiment import Loss
from maskfold.labels import NUM_CLASSES
from maskfold.models.heads import HeadOutput
from maskfold.models.targets import Targets


class F1Sums(NamedTuple):
    """Sums over photos, float32 [18] each.

    p: probabilities. t: targets. w: the photo's weight, which is the sum of its targets. predicted: sums of w * p.
    true: sums of t. true_positive: sums of p * t.
    """

    predicted: torch.Tensor
    true: torch.Tensor
    true_positive: torch.Tensor


def smooth_labels(classes: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Targets [B, 18] -> [B, 18]: the share `smoothing` of each row's sum is spread evenly over the classes."""
    return classes * (1 - smoothing) + classes.sum(1, keepdim=True) * (smoothing / NUM_CLASSES)


def cross_entropy(log_probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross entropy -sum t log p of log-probabilities log p and targets t: [B, C] each -> [B]."""
    return -(targets * log_probs).sum(1)


def focal(log_probs: torch.Tensor, targets: torch.Tensor, gamma: float) -> torch.Tensor:
    """-sum t (1 - p)^gamma log p, [B, 18] -> [B] (Lin et al. 2017, Focal Loss for Dense Object Detection, eq. 4)."""
    # 1 - p, computed from log p. It is clamped, because for gamma < 1 its power has an infinite gradient at 0.
    complement = (-torch.expm1(log_probs)).clamp(min=torch.finfo(log_probs.dtype).eps)
    return -(targets * complement**gamma * log_probs).sum(1)


def f1_sums(log_probs: torch.Tensor, classes: torch.Tensor) -> F1Sums:
    """F1Sums of log_probs and the targets `classes`, [B, 18] each."""
    probs = log_probs.exp()
    return F1Sums((probs * classes.sum(1, keepdim=True)).sum(0), classes.sum(0), (probs * classes).sum(0))


def soft_f1(micro: F1Sums, batch: F1Sums) -> torch.Tensor:
    """A micro-batch's share of the loss 1 - mean over classes of (2 sum(p t) + 1) / (sum(w p) + sum(t) + 1).

    p, t and w are explained in F1Sums. The sums run over the photos of the whole batch: this is 1 - macro F1 with
    probabilities instead of predicted labels. The added 1s matter for a class that is neither present nor predicted.
    Its score is then 1 instead of 0 / 0, and the gradient penalises probability that is given to the class. F1 is not a
    sum over photos, but its gradient is, if the sums of the batch are treated as constants. The gradients of the
    micro-batches therefore add up to the gradient of the whole batch.
    """
    denominator = (batch.predicted + batch.true + 1).detach()
    score = ((2 * batch.true_positive + 1) / denominator).detach()
    # The quotient rule: denominator_term adds 0 to the value, and contributes only the gradient of the denominator.
    denominator_term = score / denominator * micro.predicted
    batch_fraction = micro.true.sum() / batch.true.sum()
    loss = batch_fraction * (1 - 1 / denominator).mean()
    return loss - (2 * micro.true_positive / denominator - denominator_term + denominator_term.detach()).mean()


def class_weights(config: Loss, counts: np.ndarray) -> torch.Tensor:
    """Return the class weights, float32 [18]. Their mean over the photos is 1; a class without photos has weight 0.

    counts: photos per class [18]. Up to a constant factor, the weight of a class with n photos is 1 / n (inverse) or
    (1 - b) / (1 - b^n) with b = effective_beta (effective; Cui et al. 2019, Class-Balanced Loss, eq. 6).
    """
    counts = np.asarray(counts, float)
    raw = np.where(counts > 0, CLASS_WEIGHTS[config.class_weights](np.maximum(counts, 1), config), 0)
    return torch.tensor(raw * counts.sum() / (raw * counts).sum(), dtype=torch.float32)


# Values of loss.class_weights, as functions (photos per class [18], at least 1 each; config) -> weights [18] up to a
# constant factor.
CLASS_WEIGHTS: dict[str, Callable[[np.ndarray, Loss], np.ndarray]] = {
    "none": lambda counts, config: np.ones_like(counts),
    "inverse": lambda counts, config: 1 / counts,
    "effective": lambda counts, config: (1 - config.effective_beta) / (1 - config.effective_beta**counts),
}

# Losses of single photos, by their name in loss.name and loss.plus: (log_probs and targets [B, 18], config) -> [B].
PHOTO_LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, Loss], torch.Tensor]] = {
    "cross_entropy": lambda log_probs, targets, config: cross_entropy(log_probs, targets),
    "focal": lambda log_probs, targets, config: focal(log_probs, targets, config.gamma),
}
# Losses of a whole batch, by their name: (F1Sums of a micro-batch, F1Sums of the batch) -> the micro-batch's share.
BATCH_LOSSES: dict[str, Callable[[F1Sums, F1Sums], torch.Tensor]] = {"soft_f1": soft_f1}


class BatchLoss:
    """The configured loss. counts: photos per class. needs_f1_sums: whether it uses the F1Sums of the whole batch."""

    def __init__(self, config: Loss, counts: np.ndarray, device: torch.device | str = "cpu"):
        self.config, self.class_weights = config, class_weights(config, counts).to(device)
        # Name of a loss -> its weight in the sum.
        self.terms: dict[str, float] = {config.name: 1.0}
        if config.plus is not None:
            self.terms[config.plus] = self.terms.get(config.plus, 0.0) + config.plus_weight
        self.needs_f1_sums = any(name in BATCH_LOSSES for name in self.terms)

    def __call__(
        self, output: HeadOutput, targets: Targets, batch_size: int, batch_sums: F1Sums | None = None
    ) -> torch.Tensor:
        """Return a micro-batch's share of the loss: its sum of photo losses / batch_size, plus its share of soft F1.

        batch_size: photos in the whole batch. batch_sums: F1Sums of the whole batch; None if the micro-batch is the
        whole batch.
        """
        log_probs, ages = output
        smoothed = smooth_labels(targets.classes * self.class_weights, self.config.label_smoothing)
        photo_losses = log_probs.new_zeros(len(log_probs))
        for name, photo_loss in PHOTO_LOSSES.items():
            if weight := self.terms.get(name):
                photo_losses = photo_losses + weight * photo_loss(log_probs, smoothed, self.config)
        if self.config.age_weight:
            photo_losses = photo_losses + self.config.age_weight * cross_entropy(ages, targets.ages)
        loss = photo_losses.sum() / batch_size
        for name, batch_loss in BATCH_LOSSES.items():
            if weight := self.terms.get(name):
                micro = f1_sums(log_probs, targets.classes)
                loss = loss + weight * batch_loss(micro, micro if batch_sums is None else batch_sums)
        return loss
