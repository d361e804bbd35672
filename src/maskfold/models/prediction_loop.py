"""The prediction loop: probabilities or features of models on batches of photos, without gradients."""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce

import numpy as np
import torch

from maskfold.models.device import Hardware
from maskfold.models.tta import VIEWS

# Kinds of output, as functions (model, images [B, 3, H, W]) -> float32 [B, C].
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
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the photos, int64 [N], and the outputs of the M models, float32 [M, N, C].

    Both are in the order of the batches. batches: (images, labels, rows), read once for all models. views: TTA views,
    whose outputs are averaged. output: a key of OUTPUTS. C is 18 for probs, and the number of features for features.
    """
    for model in models:
        # For features, only the backbone is set to eval mode, because the head may be in the middle of training.
        (model.backbone if output == "features" else model).eval()
    views, compute = tuple(views), OUTPUTS[output]
    rows, outputs = [], []
    for images, _, batch_rows in batches:
        images = images.to(hardware.device, non_blocking=True)
        batches_by_view = [VIEWS[view](images) for view in views]
        inputs = [(image, len(group) * len(views)) for group in batches_by_view for image in group]
        with hardware.autocast():
            # Nothing here waits for the device, so that the host can prepare the next batch meanwhile.
            means = [reduce(operator.add, (compute(model, image) / n for image, n in inputs)) for model in models]
            outputs.append(torch.stack(means))
        rows.append(batch_rows)
    return torch.cat(rows).numpy(), torch.cat(outputs, dim=1).cpu().numpy()


def reporting(batches: Iterable, on_batch: Callable[[int], object], num_models: int = 1) -> Iterator:
    """Yield the batches. After each batch, call on_batch(number of its photos * num_models)."""
    for images, labels, rows in batches:
        yield images, labels, rows
        on_batch(len(rows) * num_models)
