"""The weights of finished parts on disk: written, read back, and made into a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from maskfold.config.experiment import Config, replaced
from maskfold.errors import UserError, first_line
from maskfold.fileio import write_atomic
from maskfold.models.architecture import (
    Architecture,
    architecture_from_metadata,
    architecture_to_metadata,
    find_architecture,
)
from maskfold.models.classifier import Classifier, build_classifier
from maskfold.runs.run_folder import RunFolder

Weights = dict[str, torch.Tensor]


def write_weights(path: Path, weights: Weights, architecture: Architecture | None = None) -> None:
    """Write tensors as safetensors, with the architecture of a model that is not timm's own in the metadata."""
    tensors, storages = {}, set()
    for name, tensor in weights.items():
        tensor = tensor.cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        # A layer that two blocks share is there under two names; safetensors takes no memory twice.
        tensors[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    content = save(tensors, architecture_to_metadata(architecture) or None)
    write_atomic(path, lambda beside: beside.write_bytes(content))


def finished_model(run: RunFolder, config: Config, part: str, device: torch.device) -> Classifier:
    """The model of a finished part, all of it from the run's own file: nothing is downloaded for it."""
    with _weights_of(run, part) as path, safe_open(path, "pt") as file:
        architecture = architecture_from_metadata(file.metadata()) or find_architecture(config.model.backbone)
    if config.model.pretrained or config.model.weights is not None:
        architecture = architecture.with_weights()
    wanted = replaced(config, model={"pretrained": False, "weights": None})
    model = build_classifier(wanted, architecture).to(device)
    load_part(model, run, part)
    return model


def load_part(model: torch.nn.Module, run: RunFolder, part: str) -> None:
    """Put a finished part's weights into the model. Raises UserError where they are missing."""
    with _weights_of(run, part) as path:
        model.load_state_dict(load_file(path))


@contextmanager
def _weights_of(run: RunFolder, part: str) -> Iterator[Path]:
    """The path of a finished part's weights; a UserError for a file that is missing or is not this model's."""
    path = run.weights_path(part)
    if not path.exists():
        raise UserError(f"{path}: not found; delete {path.parent} and train {part} again")
    try:
        yield path
    except (SafetensorError, RuntimeError, ValueError, OSError) as fault:
        raise UserError(
            f"{path}: not this model's weights ({first_line(fault)}); delete {path.parent} and train {part} again"
        ) from fault
