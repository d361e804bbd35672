"""Models over batches of photos: the one loop in which probabilities or features are computed without gradients."""

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import numpy as np
import torch

from maskfold.models.device import Hardware
from maskfold.models.tta import VIEWS

# What a model computes of a batch [B, 3, H, W]: float32 [B, C].
OUTPUTS: dict[str, Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]] = {
    "probs": lambda model, images: model(images).exp(),
    "features": lambda model, images: model.features(images).float(),
}


@torch.inference_mode()
def predict(
    models: Sequence[torch.nn.Module],
    batches: Iterable,
    hardware: Hardware,
    views: Iterable[str] = ("none",),
    output: str = "probs",
    on_batch: Callable[[int], object] = lambda photos: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 [N] in the order of the batches; each model's output float32 [M, N, C], the mean of the views.

    batches: (images, labels, rows), read once for all models; output: a key of OUTPUTS; on_batch is called with the
    number of photos times models after each.
    """
    for model in models:
        # The head may be in training while a feature cache asks for what goes into it.
        (model.backbone if output == "features" else model).eval()
    views, compute = tuple(views), OUTPUTS[output]
    rows, outputs = [], []
    for images, _, batch_rows in batches:
        images = images.to(hardware.device, non_blocking=True)
        seen = [(batch, len(made) * len(views)) for view in views for made in [VIEWS[view](images)] for batch in made]
        with hardware.autocast():
            # The host does not wait for the device here: it prepares the next batch meanwhile.
            each = [reduce(operator.add, (compute(model, batch) / n for batch, n in seen)) for model in models]
            outputs.append(torch.stack(each))
        rows.append(batch_rows)
        on_batch(len(batch_rows) * len(models))
    return torch.cat(rows).numpy(), torch.cat(outputs, dim=1).cpu().numpy()
