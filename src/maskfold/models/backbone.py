"""timm backbones: built for the input size, with weights by download or from a file, and errors that name a fix."""

from typing import Any

import torch

from maskfold.config.experiment import Data, Model
from maskfold.errors import UserError, first_line
from maskfold.models.architecture import FAULTS, Architecture, find_architecture, go_offline_without_network
from maskfold.models.weight_files import create_loaded, read_state, state_of_hub, weights_in


def build_backbone(model: Model, data: Data, architecture: Architecture | None = None) -> torch.nn.Module:
    """A timm model without its classifier: [B, 3, H, W] -> pooled features [B, head_hidden_size].

    Without `architecture` it is the one that model.backbone names. Raises UserError for an unknown name, for weights
    that can't be had and for a file that does not fit.
    """
    architecture = architecture or find_architecture(model.backbone)
    options: dict[str, Any] = {"num_classes": 0}
    cfg = architecture.pretrained_cfg
    if cfg.get("fixed_input_size") and (architecture.args or tuple(cfg["input_size"][1:]) != data.image_size):
        options["img_size"] = data.image_size
    if model.weights is not None:
        state = read_state(model.weights, "model.weights")
        return create_loaded(architecture, options, state, f"model.weights: {model.weights}")
    if model.pretrained and architecture.folder is not None:
        path = weights_in(architecture.folder)
        return create_loaded(architecture, options, read_state(path, "model.backbone"), f"model.backbone: {path}")
    if model.pretrained and architecture.repository is not None:
        state = state_of_hub(architecture.repository)
        return create_loaded(architecture, options, state, f"model.backbone: {model.backbone}")
    if model.pretrained:
        go_offline_without_network()
    try:
        return architecture.create(options, pretrained=model.pretrained)
    except FAULTS as fault:
        if not model.pretrained:
            raise UserError(f"model.backbone: timm can't build {model.backbone} ({first_line(fault)})") from fault
        raise UserError(
            f"model.pretrained: no weights of {model.backbone} can be had here ({first_line(fault)}); give a file "
            "downloaded elsewhere (--model.weights model.safetensors), or start from none (--model.pretrained false)"
        ) from fault
