"""One training step: mixing, gradient accumulation, loss, backward pass, optimiser and EMA."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn.modules.batchnorm import _BatchNorm

from maskfold.errors import UserError, first_line
from maskfold.loading.dataset import Batch
from maskfold.models.heads import HeadOutput
from maskfold.models.losses import F1Sums, f1_sums
from maskfold.models.targets import Targets
from maskfold.training.train_state import TrainState


@dataclass
class EpochSums:
    """Sums over the updates of an epoch. They stay on the device, because reading them makes the host wait.

    values: float32 [3]: the sum of loss * number of photos, the sum of the finite gradient norms, and the number of
    finite gradient norms. In fp16, the gradient scaler skips updates whose gradient norm is not finite.
    """

    values: torch.Tensor

    @classmethod
    def zeros(cls, device: torch.device) -> "EpochSums":
        return cls(torch.zeros(3, device=device))

    def add(self, loss: torch.Tensor, norm: torch.Tensor, num_photos: int, add_norm: bool) -> None:
        """Add one update.

        loss: what training_step returns. num_photos: photos of all processes. add_norm: True in one process only,
        because all processes have the same gradient norm.
        """
        is_added = norm.isfinite() & add_norm
        self.values = self.values + torch.stack([loss * num_photos, torch.where(is_added, norm, 0), is_added.float()])

    def means(self, accelerator: Accelerator, num_photos: int) -> tuple[float, float]:
        """Return (mean loss per photo, mean gradient norm per update) over all processes.

        num_photos: the number of photos in the epoch.
        """
        loss, norms, updates = accelerator.reduce(self.values, "sum").tolist()
        return loss / num_photos, norms / max(updates, 1)


@dataclass(frozen=True)
class Update:
    """One optimiser update.

    epoch: the epoch, counted from 1. step: the number of the update in the epoch, counted from 0. batch_size: photos of
    all processes, without the partners for mixing. dropout_seed: seed of torch's random generator; None leaves the
    generator unchanged.
    """

    epoch: int
    step: int
    batch_size: int
    dropout_seed: int | None = None


def training_step(state: TrainState, batch: Batch, update: Update, sums: EpochSums) -> torch.Tensor:
    """Make one optimiser update; return this process's share of the mean loss of the batch, a scalar on the device.

    batch: this process's share of the whole batch. Its photos are mixed, then split into `accum_steps` micro-batches.
    Losses are divided by the size of the whole batch, so that the accumulated gradient equals the gradient of the
    unsplit batch. This also holds for the last batch of an epoch, which may be smaller. sums: this update is added to
    them.
    """
    accelerator, model = state.accelerator, state.wrapped_model
    _set_seed(update.dropout_seed)
    images, labels, rows = (tensor.to(accelerator.device, non_blocking=True) for tensor in batch)
    targets = state.target_encoder(labels, rows)
    images, targets = state.mixer(images, targets, update.epoch, update.step, update.batch_size)
    micro_batches = list(zip(images.chunk(state.accum_steps), targets.chunk(state.accum_steps), strict=True))
    batch_sums = None
    if state.loss_fn.needs_f1_sums and (len(micro_batches) > 1 or accelerator.num_processes > 1):
        batch_sums = _f1_sums_of_batch(state, micro_batches)
        # The training pass below must use the same dropout masks as the extra pass above.
        _set_seed(update.dropout_seed)
    batch_loss = torch.zeros((), device=accelerator.device)
    for micro_step, (micro_images, micro_targets) in enumerate(micro_batches, 1):
        is_last = micro_step == len(micro_batches)
        # DDP synchronises gradients once per update, in the last micro-batch.
        with nullcontext() if is_last else accelerator.no_sync(model):
            with accelerator.autocast():
                loss = state.loss_fn(_forward(model, micro_images), micro_targets, update.batch_size, batch_sums)
            # DDP averages gradients over processes, but the gradient of the batch is the sum over processes.
            accelerator.backward(loss * accelerator.num_processes)
        batch_loss += loss.detach()
    # With an infinite bound, the norm is only measured, and nothing is clipped.
    norm = accelerator.clip_grad_norm_(state.model.parameters(), state.clip_norm or math.inf)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        state.ema.update(state.model)
    sums.add(batch_loss, norm, update.batch_size, accelerator.is_main_process)
    return batch_loss


def _forward(model: torch.nn.Module, images: torch.Tensor) -> HeadOutput:
    """Call the model. Raises UserError if batch norm gets one value per channel, too few to compute a variance."""
    try:
        return model(images, with_ages=True)
    except ValueError as error:
        if len(images) > 1 or not _has_training_batch_norm(model):
            raise
        raise UserError(
            f"optim.batch_size: a micro-batch holds one photo, too few for batch norm ({first_line(error)}); "
            "choose another optim.batch_size, or a lower optim.accum_steps"
        ) from error


def _has_training_batch_norm(model: torch.nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) and module.training for module in model.modules())


def dropout_seed(seed: int, epoch: int, step: int, process: int) -> int:
    """The seed for the dropout of one update, the same after a resume. epoch and step are counted from 0."""
    return int(np.random.SeedSequence((seed, epoch, step, process)).generate_state(1)[0])


def _set_seed(seed: int | None) -> None:
    if seed is not None:
        torch.manual_seed(seed)


@torch.no_grad()
def _f1_sums_of_batch(state: TrainState, micro_batches: Sequence[tuple[torch.Tensor, Targets]]) -> F1Sums:
    """Compute the F1Sums of the whole batch in an extra forward pass; the loss of each micro-batch needs them."""
    buffers = [(buffer, buffer.clone()) for buffer in state.model.buffers()]
    with state.accelerator.autocast():
        # Call the unwrapped model: after a forward pass without gradients, DDP would skip the next buffer broadcast.
        sums = [f1_sums(state.model(images), targets.classes) for images, targets in micro_batches]
    # Restore the buffers, so that only the training pass updates batch norm's statistics.
    for buffer, before in buffers:
        buffer.copy_(before)
    total = torch.stack([torch.stack(micro_sums) for micro_sums in sums]).sum(0)
    return F1Sums(*state.accelerator.reduce(total, "sum"))
