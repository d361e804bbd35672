"""Optimiser and learning rate. The rate is a function of what is on record, so a resumed run needs no state of it."""

import math
from collections.abc import Callable, Sequence
from inspect import signature
from typing import NamedTuple

import torch
from timm.optim import (
    create_optimizer_v2,
    get_optimizer_class,
    list_optimizers,
    param_groups_layer_decay,
    param_groups_weight_decay,
)

from maskfold.config.experiment import Optim
from maskfold.errors import UserError, first_line, nearest
from maskfold.models.classifier import Classifier


def make_optimizer(model: Classifier, optim: Optim) -> torch.optim.Optimizer:
    """timm's optimiser by name; no weight decay on biases and norms. Each group's `initial_lr` is its peak rate.

    With layer_decay d the backbone's layer i of n gets lr * d^(n - i) (Bao et al. 2022, BEiT, app.), its last one lr.
    Raises UserError for a name that timm does not have, or an optimiser that does not take these arguments.
    """
    if optim.name not in list_optimizers():
        every = f"; there are {', '.join(list_optimizers())}"
        raise UserError(f"optim.name: timm has no {optim.name}{nearest(optim.name, list_optimizers()) or every}")
    if optim.layer_decay < 1:
        groups = param_groups_layer_decay(model.backbone, optim.weight_decay, layer_decay=optim.layer_decay)
        # timm counts the classifier, which is not here, as the layer above the last.
        top = max(group["lr_scale"] for group in groups)
        groups = [group | {"lr": optim.lr * group.pop("lr_scale") / top} for group in groups]
    else:
        groups = [group | {"lr": optim.lr} for group in param_groups_weight_decay(model.backbone, optim.weight_decay)]
    head_lr = optim.head_lr or optim.lr
    groups += [group | {"lr": head_lr} for group in param_groups_weight_decay(model.head, optim.weight_decay)]
    groups = [group for group in groups if group["params"]]
    try:
        # One kernel for all parameters, where the optimiser has it.
        fused = {"fused": True} if "fused" in signature(get_optimizer_class(optim.name)).parameters else {}
        optimizer = create_optimizer_v2(groups, opt=optim.name, lr=optim.lr, weight_decay=optim.weight_decay, **fused)
    except (TypeError, ValueError, ImportError, AssertionError) as fault:
        raise UserError(f"optim.name: {optim.name} can't be built ({first_line(fault)}); choose another") from fault
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


class Moment(NamedTuple):
    """Where training stands: `done` of `total` updates after the warm-up; epochs with a fraction; their macro F1."""

    done: int
    total: int
    epochs: float
    scores: Sequence[float]


# What optim.schedule names: the share of the peak learning rate.
SCHEDULES: dict[str, Callable[[Optim, Moment], float]] = {
    "cosine": lambda optim, moment: 0.5 * (1 + math.cos(math.pi * moment.done / moment.total)),
    "constant": lambda optim, moment: 1.0,
    "step": lambda optim, moment: optim.step_gamma ** int(moment.epochs / optim.step_epochs),
    "plateau": lambda optim, moment: optim.step_gamma ** plateau_falls(moment.scores, optim.plateau_patience),
}


def lr_factor(optim: Optim, update: int, updates_per_epoch: int, scores: Sequence[float] = ()) -> float:
    """Share of the peak rate at the 0-based `update`; `scores` are the macro F1 of the epochs before.

    A linear warm-up, then: constant; step: step_gamma^(epochs // step_epochs); cosine: half a wave that reaches 0 after
    the last update (Loshchilov & Hutter 2017, SGDR, without restarts); plateau: step_gamma^falls. By epoch, the rate
    of an epoch's first update holds for all of it.
    """
    if optim.schedule_by == "epoch":
        update = update // updates_per_epoch * updates_per_epoch
    warmup = round(optim.warmup_epochs * updates_per_epoch)
    if update < warmup:
        return (update + 1) / (warmup + 1)
    total = max(1, optim.epochs * updates_per_epoch - warmup)
    return SCHEDULES[optim.schedule](optim, Moment(update - warmup, total, update / updates_per_epoch, scores))


def plateau_falls(scores: Sequence[float], patience: int) -> int:
    """How often a rate has fallen that falls after more than `patience` epochs in a row without a better score."""
    falls, best, waited = 0, -math.inf, 0
    for score in scores:
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited > patience:
            falls, waited = falls + 1, 0
    return falls


def stops_early(scores: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` epochs brought no better score; never with patience 0."""
    return 0 < patience < len(scores) and max(scores[-patience:]) <= max(scores[:-patience])


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
