"""Write and read the weights of finished parts (folds, refit), and build models from them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save

from maskfold.config.experiment import Config, replaced
from maskfold.errors import UserError, first_line
from maskfold.fileio import check_readable, write_atomic
from maskfold.models.architecture import (
    LOAD_ERRORS,
    Architecture,
    architecture_from_metadata,
    architecture_to_metadata,
    find_architecture,
)
from maskfold.models.classifier import Classifier, build_classifier
from maskfold.models.weight_files import read_safetensors
from maskfold.runs.run_folder import RunFolder

Weights = dict[str, torch.Tensor]


def write_weights(path: Path, weights: Weights, architecture: Architecture | None = None) -> None:
    """Write weights to a safetensors file, with the architecture in the metadata unless it is one of timm's own."""
    tensors, storages = {}, set()
    for name, tensor in weights.items():
        tensor = tensor.cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        # A layer that two blocks share occurs under two names, but safetensors refuses tensors that share memory.
        tensors[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    content = save(tensors, architecture_to_metadata(architecture) or None)
    write_atomic(path, lambda temporary: temporary.write_bytes(content))


def finished_model(run: RunFolder, config: Config, part: str, device: torch.device) -> Classifier:
    """The model of a finished part, built from the run folder alone: nothing is downloaded.

    Raises UserError if the weights are missing or do not fit the model.
    """
    offline_config = replaced(config, model={"pretrained": False, "weights": None})
    # The model is built inside this block so that invalid arguments in the metadata cause a UserError.
    with _weights_of(run, part) as (weights, metadata):
        architecture = architecture_from_metadata(metadata) or find_architecture(config.model.backbone)
        if config.model.pretrained or config.model.weights is not None:
            architecture = architecture.with_weights()
        model = build_classifier(offline_config, architecture).to(device)
        model.load_state_dict(weights)
    return model


def load_part(model: torch.nn.Module, run: RunFolder, part: str) -> None:
    """Load the weights of a finished part into the model. Raises UserError if they are missing or do not fit."""
    with _weights_of(run, part) as (weights, _):
        model.load_state_dict(weights)


@contextmanager
def _weights_of(run: RunFolder, part: str) -> Iterator[tuple[Weights, dict[str, str]]]:
    """Yield the weights of a finished part and their metadata. Errors in reading or using them become a UserError."""
    path = run.weights_path(part)
    if not path.exists():
        raise UserError(f"{path}: not found; delete {path.parent} and train {part} again")
    try:
        yield read_safetensors(path)
    except (SafetensorError, *LOAD_ERRORS) as fault:
        check_readable(path)
        raise UserError(
            f"{path}: not this model's weights ({first_line(fault)}); delete {path.parent} and train {part} again"
        ) from fault
