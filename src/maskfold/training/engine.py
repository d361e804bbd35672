"""The only two loops over batches."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3

from maskfold.models.losses import BatchLoss, Totals, f1_totals
from maskfold.models.targets import Targets, Truth
from maskfold.training.mixing import Mixer
from maskfold.training.views import VIEWS


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


def train_one_epoch(
    trainee: Trainee,
    loader: Iterable,
    before: Callable[[int], None] = lambda step: None,
    after: Callable[[int, int, torch.Tensor, torch.Tensor], None] = lambda step, photos, loss, total: None,
    first: int = 0,
    total: torch.Tensor | None = None,
) -> tuple[float, float]:
    """One pass over the loader; returns the mean training loss a photo, and the mean norm of an update's gradient.

    Each whole batch is one update. Its photos are mixed, then it is split over processes and into `accum_steps` parts,
    whose losses add up to the batch's: the gradient is the unsplit one's, for the last, smaller batch too.

    before(step) sets the update's learning rate and seed; after(step, photos, loss, total) may stop the pass. A pass
    broken off goes on with its `first` step left and the `total` [3] so far: losses, norms, updates with a norm.
    """
    accelerator, model, batches = trainee.accelerator, trainee.stepped, loader.batch_sampler
    model.train()
    total = torch.zeros(3, device=accelerator.device) if total is None else total.to(accelerator.device)
    for step, batch in enumerate(loader, first):
        before(step)
        size = batches.size(step)
        images, labels, rows = (tensor.to(accelerator.device, non_blocking=True) for tensor in batch)
        images, targets = trainee.mixer(images, trainee.truth(labels, rows), batches.epoch, step, size)
        parts = list(zip(images.chunk(trainee.accum_steps), targets.chunk(trainee.accum_steps), strict=True))
        whole = None
        if trainee.loss.needs_totals and (len(parts) > 1 or accelerator.num_processes > 1):
            whole = _totals(trainee, parts)
            # The same dropout again.
            before(step)
        batch_loss = torch.zeros((), device=accelerator.device)
        for n, (part, truth) in enumerate(parts, 1):
            # Processes exchange gradients once an update, with the last part.
            with nullcontext() if n == len(parts) else accelerator.no_sync(model):
                with accelerator.autocast():
                    loss = trainee.loss(model(part, fine=True), truth, size, whole)
                # DDP takes the mean over processes, the batch's loss is their sum.
                accelerator.backward(loss * accelerator.num_processes)
            batch_loss += loss.detach()
        # Without a bound the norm is measured alone.
        norm = accelerator.clip_grad_norm_(trainee.model.parameters(), trainee.clip_norm or math.inf)
        trainee.optimizer.step()
        trainee.optimizer.zero_grad(set_to_none=True)
        if trainee.ema is not None:
            trainee.ema.update(trainee.model)
        # Summed on the device: reading it each step would make the host wait for it. All processes know the norm, which
        # is no number where fp16 overflows: such an update is left out.
        counts = norm.isfinite() & accelerator.is_main_process
        total = total + torch.stack([batch_loss * size, torch.where(counts, norm, 0), counts.float()])
        after(step, size, batch_loss, total)
    loss, norms, updates = accelerator.reduce(total, "sum").tolist()
    return loss / len(batches.rows), norms / max(updates, 1)


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


@dataclass(frozen=True)
class Hardware:
    """Where and in what precision a model predicts."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self):
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


@torch.inference_mode()
def predict_probs(
    models: Sequence[torch.nn.Module],
    loader: Iterable,
    hardware: Hardware,
    views: Iterable[str] = ("none",),
    on_batch: Callable[[int], None] = lambda photos: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 [N] as the loader gives them; each model's probabilities float32 [M, N, 18], the views' mean."""
    for model in models:
        model.eval()
    views = tuple(views)
    rows, probs = [], []
    for images, _, at in loader:
        images = images.to(hardware.device, non_blocking=True)
        seen = [(batch, len(made) * len(views)) for view in views for made in [VIEWS[view](images)] for batch in made]
        with hardware.autocast():
            # The host does not wait for the device here: it prepares the next batch meanwhile.
            probs.append(torch.stack([sum(model(batch).exp() / n for batch, n in seen) for model in models]))
        rows.append(at)
        on_batch(len(at) * len(models))
    return torch.cat(rows).numpy(), torch.cat(probs, dim=1).cpu().numpy()
