"""Build a timm backbone for the input size, with random weights, downloaded weights or weights from a file."""

from typing import Any

import torch

from maskfold.config.experiment import Data, Model
from maskfold.errors import UserError, first_line
from maskfold.models.architecture import (
    LOAD_ERRORS,
    Architecture,
    build_error,
    find_architecture,
    go_offline_without_network,
)
from maskfold.models.weight_files import create_with_weights, find_weights_file, read_hub_state_dict, read_state_dict


def build_backbone(model: Model, data: Data, architecture: Architecture | None = None) -> torch.nn.Module:
    """Build a timm model without its classifier: [B, 3, H, W] -> pooled features [B, head_hidden_size].

    architecture: if None, the architecture that model.backbone names. Raises UserError for an unknown name, weights
    that cannot be loaded, and weights of another model.
    """
    architecture = architecture or find_architecture(model.backbone)
    options: dict[str, Any] = {"num_classes": 0}
    cfg = architecture.pretrained_cfg
    if cfg.get("fixed_input_size") and (architecture.args or tuple(cfg["input_size"][1:]) != data.image_size):
        options["img_size"] = data.image_size
    if model.weights is not None:
        state = read_state_dict(model.weights, "model.weights")
        return create_with_weights(architecture, options, state, f"model.weights: {model.weights}")
    if model.pretrained and architecture.folder is not None:
        path = find_weights_file(architecture.folder)
        state = read_state_dict(path, "model.backbone")
        return create_with_weights(architecture, options, state, f"model.backbone: {path}")
    if model.pretrained and architecture.repository is not None:
        state = read_hub_state_dict(architecture.repository)
        return create_with_weights(architecture, options, state, f"model.backbone: {model.backbone}")
    if model.pretrained:
        go_offline_without_network()
    try:
        return architecture.create(options, pretrained=model.pretrained)
    except LOAD_ERRORS as error:
        if not model.pretrained:
            raise build_error(model.backbone, error) from error
        raise UserError(
            f"model.pretrained: the weights of {model.backbone} can't be loaded here ({first_line(error)}); give a "
            "file downloaded elsewhere (--model.weights model.safetensors), or use random weights (--model.pretrained "
            "false)"
        ) from error
