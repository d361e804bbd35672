"""timm backbones: names, weights by download or from a file, and errors that say the way out."""

import os
import socket
from pathlib import Path
from urllib.parse import urlparse

import huggingface_hub.constants
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from maskfold.config import Data, Model
from maskfold.errors import UserError, nearest


def build_backbone(model: Model, data: Data) -> torch.nn.Module:
    """A timm model without its classifier: [B, 3, H, W] -> pooled features [B, head_hidden_size].

    Raises UserError for an unknown name, for weights that can't be had and for a file that does not fit.
    """
    if not timm.is_model(model.backbone):
        close = nearest(model.backbone, timm.list_models(), n=5) or "; timm.list_models() lists all"
        raise UserError(f"model.backbone: timm has no {model.backbone}{close}")
    options = {"num_classes": 0}
    cfg = timm.get_pretrained_cfg(model.backbone)
    if cfg is not None and cfg.fixed_input_size and tuple(cfg.input_size[1:]) != data.image_size:
        options["img_size"] = data.image_size
    pretrained = model.pretrained and model.weights is None
    if pretrained:
        _go_offline_without_network()
    try:
        backbone = timm.create_model(model.backbone, pretrained=pretrained, **options)
    except (OSError, RuntimeError, ValueError, AssertionError, TypeError) as fault:
        reason = (str(fault).splitlines() or [type(fault).__name__])[0]
        if not pretrained:
            raise UserError(
                f"model.backbone: timm can't build {model.backbone} for {data.image_size} ({reason})"
            ) from fault
        raise UserError(
            f"model.pretrained: no weights of {model.backbone} can be had here ({reason}); give a file "
            "downloaded elsewhere (--model.weights model.safetensors), or start from none (--model.pretrained false)"
        ) from fault
    if model.weights is not None:
        load_weights(backbone, model.weights, model.backbone)
    return backbone


def load_weights(backbone: torch.nn.Module, path: Path, name: str) -> None:
    """Load a safetensors file in timm's names; its classifier is left out. Raises UserError where it does not fit."""
    held = read_safetensors(path, "model.weights")
    own = backbone.state_dict()
    classifiers = backbone.pretrained_cfg.get("classifier") or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    held = {key: value for key, value in held.items() if key.rpartition(".")[0] not in classifiers}
    fitting = [key for key in own if key in held and held[key].shape == own[key].shape]
    # A deeper net's file holds every tensor of a shallower one, so a tensor too many is a misfit as well.
    too_many = held.keys() - own.keys()
    if len(fitting) < len(own) or too_many:
        raise UserError(
            f"model.weights: {path} does not fit {name}: {len(fitting)} of its {len(own)} tensors do, and the file "
            f"holds {len(too_many)} that it does not know; give the file of this very timm model"
        )
    backbone.load_state_dict(held)


def read_safetensors(path: Path, key: str) -> dict[str, torch.Tensor]:
    """All tensors of a file. Raises UserError naming the configuration key for a missing file or another format."""
    if not path.is_file():
        raise UserError(f"{key}: {path}: no such file")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as fault:
        raise UserError(
            f"{key}: {path} is no readable safetensors file ({fault}); convert or download it again"
        ) from fault


def _go_offline_without_network() -> None:
    """Where the hub's name can't be resolved, look into the local cache only: the retries take most of a minute."""
    if any(name in os.environ for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    try:
        socket.getaddrinfo(urlparse(huggingface_hub.constants.ENDPOINT).hostname, 443)
    except OSError:
        huggingface_hub.constants.HF_HUB_OFFLINE = True
