"""The only two loops over batches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader

from maskfold.training.views import VIEWS


@dataclass(frozen=True)
class Hardware:
    """Where and in what precision a model computes."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self):
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def train_one_epoch(
    model: torch.nn.Module,
    loader: DataLoader,
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    scaler: torch.amp.GradScaler,
    hardware: Hardware,
    accum_steps: int = 1,
    on_batch: Callable[[int, torch.Tensor], None] = lambda photos, loss: None,
) -> float:
    """One pass over the loader; returns the mean training loss a photo.

    Each whole batch is one update. It is split into `accum_steps` parts, whose losses sum(w * l) / B add up to the
    batch's: the gradient is the unsplit one's, for the last, smaller batch too.
    """
    model.train()
    total = torch.zeros((), device=hardware.device)
    seen = 0
    for images, labels, _ in loader:
        batch_loss = torch.zeros((), device=hardware.device)
        for part, part_labels in zip(images.chunk(accum_steps), labels.chunk(accum_steps), strict=True):
            part = part.to(hardware.device, non_blocking=True)
            part_labels = part_labels.to(hardware.device, non_blocking=True)
            with hardware.autocast():
                loss = loss_of(model(part), part_labels).sum() / len(labels)
            scaler.scale(loss).backward()
            batch_loss += loss.detach()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        scheduler.step()
        # Summed on the device: reading it each step would make the host wait for it.
        total += batch_loss * len(labels)
        seen += len(labels)
        on_batch(len(labels), batch_loss)
    return float(total) / seen


@torch.inference_mode()
def predict_probs(
    model: torch.nn.Module,
    loader: DataLoader,
    hardware: Hardware,
    views: Iterable[str] = ("none",),
    on_batch: Callable[[int], None] = lambda photos: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 [N] as the loader gives them and probabilities float32 [N, 18], the mean of the views' softmax."""
    model.eval()
    views = tuple(views)
    rows, probs = [], []
    for images, _, at in loader:
        images = images.to(hardware.device, non_blocking=True)
        with hardware.autocast():
            mean = sum(model(VIEWS[view](images)).exp() for view in views) / len(views)
        rows.append(at)
        probs.append(mean.cpu())
        on_batch(len(at))
    return torch.cat(rows).numpy(), torch.cat(probs).numpy()
