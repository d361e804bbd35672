"""Optimiser and learning rate."""

import math

import torch
from timm.optim import create_optimizer_v2

from maskfold.config import Optim


def make_optimizer(model: torch.nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """timm's, which spares biases and norms the weight decay."""
    return create_optimizer_v2(model, opt=optim.name, lr=optim.lr, weight_decay=optim.weight_decay)


def lr_factor(optim: Optim, update: int, updates_per_epoch: int) -> float:
    """Share of optim.lr at the 0-based `update`: linear warm-up, then constant, or half a cosine that reaches 0 after
    the last one (Loshchilov & Hutter 2017, SGDR, without restarts)."""
    total, warmup = optim.epochs * updates_per_epoch, round(optim.warmup_epochs * updates_per_epoch)
    if update < warmup:
        return (update + 1) / (warmup + 1)
    if optim.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (update - warmup) / max(1, total - warmup)))


def make_scheduler(optimizer: torch.optim.Optimizer, optim: Optim, updates_per_epoch: int):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: lr_factor(optim, update, updates_per_epoch))
