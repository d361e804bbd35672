"""One training step."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3

from maskfold.errors import UserError, first_line
from maskfold.loading.dataset import Batch
from maskfold.loading.mixing import Mixer
from maskfold.loading.sampler import Batches
from maskfold.models.heads import Fine
from maskfold.models.losses import BatchLoss, Totals, f1_totals
from maskfold.models.targets import Targets, Truth


@dataclass
class Trainee:
    """What a training step works on. `stepped` is what is called: the model itself, or it wrapped (DDP, compiled)."""

    accelerator: Accelerator
    model: torch.nn.Module
    stepped: torch.nn.Module
    optimizer: torch.optim.Optimizer
    loss: BatchLoss
    truth: Truth
    mixer: Mixer
    ema: ModelEmaV3 | None = None
    accum_steps: int = 1
    clip_norm: float = 0.0
    wrapped: bool = False


@dataclass
class EpochSums:
    """What an epoch's updates add up to, on the device: reading it each update would make the host wait for it.

    values: float32 [3]: losses times photos, gradient norms, updates with a finite norm (fp16 leaves the others out).
    """

    values: torch.Tensor

    @classmethod
    def zeros(cls, device: torch.device) -> "EpochSums":
        return cls(torch.zeros(3, device=device))

    def add(self, loss: torch.Tensor, norm: torch.Tensor, photos: int, counts_norm: bool) -> None:
        """counts_norm: all processes know the norm, and one of them adds it."""
        counts = norm.isfinite() & counts_norm
        self.values = self.values + torch.stack([loss * photos, torch.where(counts, norm, 0), counts.float()])

    def means(self, accelerator: Accelerator, photos: int) -> tuple[float, float]:
        """(training loss of a photo, norm of an update's gradient), over all processes."""
        loss, norms, updates = accelerator.reduce(self.values, "sum").tolist()
        return loss / photos, norms / max(updates, 1)


def training_step(
    trainee: Trainee, batch: Batch, batches: Batches, step: int, sums: EpochSums, seed: int | None = None
) -> torch.Tensor:
    """One optimiser update on a whole batch; returns this process' share of its mean loss, a scalar on the device.

    The photos are mixed, then split over processes and into `accum_steps` parts, whose losses add up to the batch's:
    the gradient is the unsplit one's, for the last, smaller batch too. seed: of dropout, for this update.
    """
    accelerator, model = trainee.accelerator, trainee.stepped
    _seed(seed)
    photos = batches.size(step)
    images, labels, rows = (tensor.to(accelerator.device, non_blocking=True) for tensor in batch)
    images, targets = trainee.mixer(images, trainee.truth(labels, rows), batches.epoch, step, photos)
    parts = list(zip(images.chunk(trainee.accum_steps), targets.chunk(trainee.accum_steps), strict=True))
    totals = None
    if trainee.loss.needs_totals and (len(parts) > 1 or accelerator.num_processes > 1):
        totals = _totals(trainee, parts)
        # The same dropout again.
        _seed(seed)
    batch_loss = torch.zeros((), device=accelerator.device)
    for number, (part, truth) in enumerate(parts, 1):
        # Processes exchange gradients once an update, with the last part.
        with nullcontext() if number == len(parts) else accelerator.no_sync(model):
            with accelerator.autocast():
                loss = trainee.loss(_predicted(model, part), truth, photos, totals)
            # DDP takes the mean over processes, the batch's loss is their sum.
            accelerator.backward(loss * accelerator.num_processes)
        batch_loss += loss.detach()
    # Without a bound the norm is measured alone.
    norm = accelerator.clip_grad_norm_(trainee.model.parameters(), trainee.clip_norm or math.inf)
    trainee.optimizer.step()
    trainee.optimizer.zero_grad(set_to_none=True)
    if trainee.ema is not None:
        trainee.ema.update(trainee.model)
    sums.add(batch_loss, norm, photos, accelerator.is_main_process)
    return batch_loss


def _predicted(model: torch.nn.Module, photos: torch.Tensor) -> Fine:
    """Raises UserError where batch norm has a single value, whose variance is none."""
    try:
        return model(photos, fine=True)
    except ValueError as fault:
        if len(photos) > 1:
            raise
        raise UserError(
            f"optim.batch_size: a part of a batch holds one photo, too few for batch norm ({first_line(fault)}); "
            "choose another optim.batch_size, or fewer optim.accum_steps"
        ) from fault


def noise_seed(seed: int, epoch: int, step: int, process: int) -> int:
    """Dropout's noise is the update's own, so a resumed run meets the same."""
    return int(np.random.SeedSequence((seed, epoch, step, process)).generate_state(1)[0])


def _seed(seed: int | None) -> None:
    if seed is not None:
        torch.manual_seed(seed)


@torch.no_grad()
def _totals(trainee: Trainee, parts: Sequence[tuple[torch.Tensor, Targets]]) -> Totals:
    """What the loss must know of a whole batch before its parts, by a pass without gradients over all of them."""
    buffers = [(buffer, buffer.clone()) for buffer in trainee.model.buffers()]
    with trainee.accelerator.autocast():
        # The model itself: a pass through DDP would use up the exchange of buffers that the step's own is to make.
        each = [f1_totals(trainee.model(part), truth.classes) for part, truth in parts]
    # Batch norm has seen these photos once only.
    for buffer, before in buffers:
        buffer.copy_(before)
    sums = torch.stack([torch.stack(totals) for totals in each]).sum(0)
    return Totals(*trainee.accelerator.reduce(sums, "sum"))
