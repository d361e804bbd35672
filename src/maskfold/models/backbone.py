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

# What timm and the hub raise for a model or weights that can't be had.
FAULTS = (OSError, RuntimeError, ValueError, AssertionError, TypeError, KeyError)


def build_backbone(model: Model, data: Data) -> torch.nn.Module:
    """A timm model without its classifier: [B, 3, H, W] -> pooled features [B, head_hidden_size].

    Raises UserError for an unknown name, for weights that can't be had and for a file that does not fit.
    """
    cfg = _pretrained_cfg(model.backbone)
    options = {"num_classes": 0}
    if cfg is not None and cfg.fixed_input_size and tuple(cfg.input_size[1:]) != data.image_size:
        options["img_size"] = data.image_size
    if model.weights is not None:
        return _from_file(model, options)
    if model.pretrained:
        _go_offline_without_network()
    try:
        return timm.create_model(model.backbone, pretrained=model.pretrained, **options)
    except FAULTS as fault:
        if not model.pretrained:
            raise UserError(f"model.backbone: timm can't build {model.backbone} ({_reason(fault)})") from fault
        raise UserError(
            f"model.pretrained: no weights of {model.backbone} can be had here ({_reason(fault)}); give a file "
            "downloaded elsewhere (--model.weights model.safetensors), or start from none (--model.pretrained false)"
        ) from fault


def _reason(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0]


def _pretrained_cfg(name: str):
    """timm's notes on a model. Raises UserError for a name, or a tag behind its dot, that timm does not have."""
    bare = name.partition(".")[0]
    if not timm.is_model(bare):
        close = nearest(bare, timm.list_models(), n=5) or "; timm.list_models() lists all"
        raise UserError(f"model.backbone: timm has no {name}{close}")
    try:
        return timm.get_pretrained_cfg(name)
    except FAULTS as fault:
        tags = ", ".join(timm.list_pretrained(bare)[:5])
        raise UserError(f"model.backbone: timm has no {name}; there are {tags or bare}") from fault


def _from_file(model: Model, options: dict) -> torch.nn.Module:
    """A backbone with a file's weights, through timm's own door, which resizes position embeddings to the input.

    The file holds timm's names; its classifier is left out. Raises UserError where it does not fit.
    """
    held = read_safetensors(model.weights, "model.weights")
    own = timm.create_model(model.backbone, **options)
    classifiers = own.pretrained_cfg.get("classifier") or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    held = {key: value for key, value in held.items() if key.rpartition(".")[0] not in classifiers}
    wanted = own.state_dict()
    fitting = [key for key in wanted if key in held and held[key].shape == wanted[key].shape]
    # A deeper net's file holds every tensor of a shallower one, so one too many is a misfit too; timm lets both pass.
    too_many = held.keys() - wanted.keys()
    reason = ""
    if not (wanted.keys() - held.keys() or too_many):
        try:
            overlay = {"file": str(model.weights)}
            return timm.create_model(model.backbone, pretrained=True, pretrained_cfg_overlay=overlay, **options)
        except FAULTS as fault:
            reason = f" ({_reason(fault)})"
    raise UserError(
        f"model.weights: {model.weights} does not fit {model.backbone}: "
        f"{len(fitting)} of its {len(wanted)} tensors do, and "
        f"the file holds {len(too_many)} that it does not know{reason}; give the file of this very timm model"
    )


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
