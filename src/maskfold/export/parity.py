"""Run an ONNX model, and compare it with PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from maskfold.errors import UserError
from maskfold.loading.dataset import unlabelled_batch
from maskfold.models.classifier import Classifier
from maskfold.models.device import Hardware
from maskfold.models.prediction_loop import predict

# Largest difference of a probability between onnxruntime and PyTorch, both in fp32, and with weights stored as fp16.
# Rounding weights to fp16 usually changes a probability by less than 0.01, and a broken graph by more than 0.1.
MAX_DIFFERENCE, MAX_HALF_DIFFERENCE = 1e-4, 0.1
# Sizes of the batches that are compared. The graph was traced with another one.
BATCH_SIZES = (1, 3, 8)


@dataclass(frozen=True)
class Parity:
    """A comparison: the largest difference of a probability, the photos, and those with equal predicted labels."""

    difference: float
    num_photos: int
    num_equal_labels: int


def compared_batches(inputs: np.ndarray) -> list[np.ndarray]:
    """Split inputs uint8 [N, H, W, 3] into batches of the sizes BATCH_SIZES, repeating photos as needed."""
    rows = np.resize(np.arange(len(inputs)), sum(BATCH_SIZES))
    return [inputs[part] for part in np.split(rows, np.cumsum(BATCH_SIZES)[:-1])]


def torch_probs(model: Classifier, views: Sequence[str], batches: Sequence[np.ndarray]) -> np.ndarray:
    """The probabilities of a model by the prediction loop of submit.py in fp32 on the CPU, float32 [N, 18]."""
    loaded = [unlabelled_batch(photos) for photos in batches]
    return predict([model], loaded, Hardware(torch.device("cpu"), torch.float32), views)[1][0]


def onnx_probs(content: bytes, batches: Sequence[np.ndarray]) -> np.ndarray:
    """The probabilities of an ONNX file by onnxruntime on the CPU, float32 [N, 18]. batches: uint8 [B, H, W, 3]."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # 3: errors. Warnings about graph optimisations are of no use here.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: batch})[0] for batch in batches])


def check_parity(expected: np.ndarray, actual: np.ndarray, limit: float, name: str) -> Parity:
    """Compare probabilities [N, 18]. Raises UserError if they differ by more than `limit`; name: for messages."""
    difference = float(np.abs(expected - actual).max())
    # Written so that NaN is refused, too.
    if not difference <= limit:
        raise UserError(
            f"{name}: the probabilities of the exported model differ from PyTorch by {difference:.1g}, more than "
            f"{limit:g}; train another backbone, or use the run in Python (maskfold.load_run)"
        )
    return Parity(difference, len(expected), int((expected.argmax(1) == actual.argmax(1)).sum()))
