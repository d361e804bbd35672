"""Losses on log-probabilities: one value a photo, so that the caller can weight, split and average."""

from collections.abc import Callable

import numpy as np
import torch

from maskfold.config import Loss
from maskfold.labels import NUM_CLASSES


def smoothed(labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """int64 [B] -> targets float32 [B, 18]: 1 - smoothing on the class, and smoothing spread evenly over all 18."""
    one_hot = torch.nn.functional.one_hot(labels, NUM_CLASSES).float()
    return one_hot * (1 - smoothing) + smoothing / NUM_CLASSES


def cross_entropy(log_probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log_probs, targets [B, 18] -> [B]."""
    return -(targets * log_probs).sum(1)


def focal(log_probs: torch.Tensor, targets: torch.Tensor, gamma: float) -> torch.Tensor:
    """-sum t (1 - p)^gamma log p, [B, 18] -> [B] (Lin et al. 2017, Focal Loss for Dense Object Detection, eq. 4)."""
    # 1 - p from log p, and a floor under it: at p = 1 the power's gradient would be infinite for gamma < 1.
    missing = (-torch.expm1(log_probs)).clamp(min=torch.finfo(log_probs.dtype).eps)
    return -(targets * missing**gamma * log_probs).sum(1)


def class_weights(kind: str, counts: np.ndarray) -> torch.Tensor:
    """Photos a class [18] -> weights float32 [18] whose mean over those photos is 1; 0 for a class without photos."""
    counts = np.asarray(counts, float)
    raw = np.where(counts > 0, 1.0 if kind == "none" else 1 / np.maximum(counts, 1), 0)
    return torch.tensor(raw * counts.sum() / (raw * counts).sum(), dtype=torch.float32)


def build_loss(
    config: Loss, counts: np.ndarray, device: torch.device | str = "cpu"
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """(log_probs [B, 18], labels int64 [B]) -> weighted loss a photo [B]; `counts` are the training photos a class."""
    weights = class_weights(config.class_weights, counts).to(device)

    def loss(log_probs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        targets = smoothed(labels, config.label_smoothing)
        each = cross_entropy(log_probs, targets) if config.name != "focal" else focal(log_probs, targets, config.gamma)
        return weights[labels] * each

    return loss
