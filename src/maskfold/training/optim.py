"""Optimiser and learning-rate schedule. The schedule is a pure function of the update number and the scores."""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from typing import Any, NamedTuple

import torch

from maskfold.config.experiment import Optim
from maskfold.errors import UserError, did_you_mean, first_line
from maskfold.models.classifier import Classifier
from maskfold.models.timm_library import (
    create_optimizer_v2,
    get_optimizer_class,
    list_optimizers,
    param_groups_layer_decay,
    param_groups_weight_decay,
    prepare_compiler,
)


def make_optimizer(model: Classifier, optim: Optim) -> torch.optim.Optimizer:
    """Create a timm optimiser without weight decay on biases and norm layers. A group's `initial_lr` is its peak rate.

    With layer_decay d, layer i of the backbone's n layers gets lr * d^(n - i), so layer n gets lr (Bao et al. 2022,
    BEiT, appendix). Raises UserError for a name that timm does not have, and for an optimiser that can't be built.
    """
    if optim.name not in list_optimizers():
        hint = did_you_mean(optim.name, list_optimizers()) or f"; use one of {', '.join(list_optimizers())}"
        raise UserError(f"optim.name: timm has no {optim.name}{hint}")
    if optim.layer_decay < 1:
        groups = param_groups_layer_decay(model.backbone, optim.weight_decay, layer_decay=optim.layer_decay)
        # timm gives scale 1 to a classifier, but this backbone has none. The division gives its last layer scale 1.
        max_scale = max(group["lr_scale"] for group in groups)
        groups = [group | {"lr": optim.lr * group.pop("lr_scale") / max_scale} for group in groups]
    else:
        groups = [group | {"lr": optim.lr} for group in param_groups_weight_decay(model.backbone, optim.weight_decay)]
    head_lr = optim.head_lr or optim.lr
    groups += [group | {"lr": head_lr} for group in param_groups_weight_decay(model.head, optim.weight_decay)]
    groups = [group for group in groups if group["params"]]
    if optim.name == "kron":
        # This is timm's only optimiser that compiles a part of itself.
        prepare_compiler()
    try:
        # A fused optimiser updates all parameters in one kernel; not every optimiser has this option.
        fused = {"fused": True} if "fused" in signature(get_optimizer_class(optim.name)).parameters else {}
        optimizer = create_optimizer_v2(groups, opt=optim.name, lr=optim.lr, weight_decay=optim.weight_decay, **fused)
    except (TypeError, ValueError, ImportError, AssertionError) as error:
        raise UserError(
            f"optim.name: {optim.name} can't be built ({first_line(error)}); choose another optimiser"
        ) from error
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    _step_without_compiler(type(optimizer))
    return optimizer


def _create_without_compiler() -> None:
    """Keep torch from importing its compiler for an optimiser; the import takes as long as importing torch itself.

    torch imports the compiler to exclude the optimisers' methods from compilation, but maskfold compiles only models.
    """
    for method in vars(torch.optim.Optimizer).values():
        inner = getattr(method, "__wrapped__", None)
        # The first call of a function that torch._disable_dynamo wraps imports the compiler, unless this attribute
        # already holds the function to call.
        if inner is not None and not hasattr(inner, "__dynamo_disable"):
            inner.__dynamo_disable = inner


def _step_without_compiler(optimizer_type: type[torch.optim.Optimizer]) -> None:
    """Replace torch's wrapper of step(), which imports the compiler, with one that does the same in eager mode."""
    wrapper: Any = getattr(optimizer_type.step, "__wrapped__", None)
    if getattr(wrapper, "__code__", _create_without_compiler.__code__).co_name != "_use_grad":
        return
    step = wrapper.__wrapped__

    @wraps(step)
    def step_eagerly(self, *args, **kwargs):
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return step(self, *args, **kwargs)

    hooked = torch.optim.Optimizer.profile_hook_step(step_eagerly)
    # This attribute tells torch that the profiler's hook is already in place.
    hooked.hooked = True
    optimizer_type.step = hooked


_create_without_compiler()


class SchedulePoint(NamedTuple):
    """The progress of training, on which the learning rate depends.

    updates, total_updates: number of updates so far, and in the whole training; both without the warm-up. epochs:
    number of epochs so far, with the warm-up; it may be a fraction. scores: macro F1 of the finished epochs.
    """

    updates: int
    total_updates: int
    epochs: float
    scores: Sequence[float]


# Values of optim.schedule -> function that returns the factor by which the peak learning rate is multiplied.
SCHEDULES: dict[str, Callable[[Optim, SchedulePoint], float]] = {
    "cosine": lambda optim, point: 0.5 * (1 + math.cos(math.pi * point.updates / point.total_updates)),
    "constant": lambda optim, point: 1.0,
    "step": lambda optim, point: optim.step_gamma ** int(point.epochs / optim.step_epochs),
    "plateau": lambda optim, point: optim.step_gamma ** num_plateau_reductions(point.scores, optim.plateau_patience),
}


def lr_factor(optim: Optim, update: int, updates_per_epoch: int, scores: Sequence[float] = ()) -> float:
    """Return the factor by which the peak learning rate is multiplied at an update; updates are counted from 0.

    The factor follows optim.schedule after a linear warm-up. constant: 1. step: step_gamma^(epochs // step_epochs).
    cosine: a cosine that reaches 0 after the last update (Loshchilov & Hutter 2017, SGDR, without restarts). plateau:
    step_gamma^num_plateau_reductions. With schedule_by epoch, all updates of an epoch have the factor of its first
    update. scores: macro F1 of the finished epochs.
    """
    if optim.schedule_by == "epoch":
        update = update // updates_per_epoch * updates_per_epoch
    warmup = round(optim.warmup_epochs * updates_per_epoch)
    if update < warmup:
        return (update + 1) / (warmup + 1)
    total = max(1, optim.epochs * updates_per_epoch - warmup)
    return SCHEDULES[optim.schedule](optim, SchedulePoint(update - warmup, total, update / updates_per_epoch, scores))


def num_plateau_reductions(scores: Sequence[float], patience: int) -> int:
    """Return how many times torch's ReduceLROnPlateau with threshold 0 would have reduced the learning rate so far.

    The rate is reduced after more than `patience` epochs in a row without a better score.
    """
    reductions, best, num_bad_epochs = 0, -math.inf, 0
    for score in scores:
        num_bad_epochs = 0 if score > best else num_bad_epochs + 1
        best = max(best, score)
        if num_bad_epochs > patience:
            reductions, num_bad_epochs = reductions + 1, 0
    return reductions


def should_stop_early(scores: Sequence[float], patience: int) -> bool:
    """Whether none of the last `patience` epochs improved on the best earlier score; always False with patience 0."""
    return 0 < patience < len(scores) and max(scores[-patience:]) <= max(scores[:-patience])


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of each parameter group to `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
