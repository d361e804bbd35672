"""The architecture that model.backbone names: a timm model, a repository of the Hugging Face hub, or a folder."""

import json
import os
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import huggingface_hub.constants
from torch import nn

from maskfold.errors import UserError, did_you_mean, first_line
from maskfold.models.timm_library import load_model_config_from_hf, load_model_config_from_path, timm

# Exceptions that timm and huggingface_hub raise for models and weights that can't be loaded.
LOAD_ERRORS = (OSError, RuntimeError, ValueError, AssertionError, TypeError, KeyError, AttributeError)
# Keys of timm's pretrained_cfg that decide how a model is built and what it computes.
CFG_KEYS = ("mean", "std", "input_size", "fixed_input_size", "num_classes", "first_conv", "classifier")

# timm model -> constructor arguments that timm sets only if it loads the pretrained weights itself.
ARGS_WITH_WEIGHTS = {"fbnetc_100": {"bn_eps": 1e-3}}


@dataclass(frozen=True)
class Architecture:
    """Arguments of timm.create_model.

    cfg: timm's pretrained_cfg; None means the one that timm has for `name`. args: arguments of the model's constructor.
    folder, repository: where the weights of a `local-dir:` or `hf-hub:` model are.
    """

    name: str
    cfg: dict[str, Any] | None = None
    args: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    repository: str | None = None

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        return self.cfg or timm.get_pretrained_cfg(self.name).to_dict()

    def with_weights(self) -> "Architecture":
        """The architecture that timm would build if it loaded the weights itself.

        Use it if weights are loaded only after the model is built.
        """
        args = ARGS_WITH_WEIGHTS.get(self.name.partition(".")[0], {})
        return replace(self, args={**args, **self.args})

    def create(self, options: dict[str, Any], **more: Any) -> nn.Module:
        """Call timm.create_model; `options` override the architecture's constructor arguments."""
        return timm.create_model(self.name, pretrained_cfg=self.cfg, **{**self.args, **options}, **more)


def find_architecture(backbone: str) -> Architecture:
    """Resolve a timm name, `hf-hub:owner/name` or `local-dir:folder`. Raises UserError if there is no such model."""
    prefix, _, location = backbone.partition(":")
    if prefix in ("hf-hub", "hf_hub") and location:
        return _from_hub(location)
    if prefix == "local-dir" and location:
        return _from_folder(Path(location))
    return _from_timm(backbone)


def architecture_to_metadata(architecture: Architecture | None) -> dict[str, str]:
    """Return metadata for a weights file, so that its model can be built without the hub or the folder.

    The metadata are empty for a timm model.
    """
    if architecture is None or architecture.cfg is None:
        return {}
    cfg = {key: architecture.cfg[key] for key in CFG_KEYS if key in architecture.cfg}
    # All values are under one key, because safetensors may reorder several keys, which changes the hash of the file.
    return {"architecture": json.dumps([architecture.name, cfg, architecture.args], sort_keys=True)}


def architecture_from_metadata(metadata: dict[str, str] | None) -> Architecture | None:
    """Inverse of architecture_to_metadata; None for a timm model. Raises ValueError for invalid metadata."""
    if metadata is None or "architecture" not in metadata:
        return None
    name, cfg, args = json.loads(metadata["architecture"])
    if not (isinstance(name, str) and timm.is_model(name)) or not (isinstance(cfg, dict) and isinstance(args, dict)):
        raise ValueError("its metadata does not name a timm architecture")
    return Architecture(name, _checked_cfg(cfg), args)


def _from_timm(backbone: str) -> Architecture:
    name = backbone.partition(".")[0]
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models(), n=5) or "; call timm.list_models() for the names of all models"
        if "/" in backbone or ":" in backbone:
            hint = "; write hf-hub:OWNER/NAME for a model of the Hugging Face hub, local-dir:FOLDER for a folder"
        raise UserError(f"model.backbone: timm has no {backbone}{hint}")
    try:
        timm.get_pretrained_cfg(backbone)
    except LOAD_ERRORS as error:
        tags = ", ".join(timm.list_pretrained(name)[:5])
        raise UserError(f"model.backbone: timm has no {backbone}; use {tags or name}") from error
    return Architecture(backbone)


def _from_folder(folder: Path) -> Architecture:
    try:
        cfg, name, args = load_model_config_from_path(folder)
        return _make(name, cfg, args, folder=folder)
    except LOAD_ERRORS as error:
        raise UserError(
            f"model.backbone: {folder} is not a model folder of timm ({first_line(error)}); give a folder with "
            "config.json and model.safetensors, as timm's save_for_hf writes it"
        ) from error


def _from_hub(repository: str) -> Architecture:
    go_offline_without_network()
    try:
        cfg, name, args = load_model_config_from_hf(repository)
        return _make(name, cfg, args, repository=repository)
    except LOAD_ERRORS as error:
        raise repository_error(repository, error) from error


def build_error(name: str, error: Exception) -> UserError:
    return UserError(f"model.backbone: timm can't build {name} ({first_line(error)})")


def repository_error(repository: str, error: Exception) -> UserError:
    return UserError(
        f"model.backbone: hf-hub:{repository} can't be loaded here ({first_line(error)}); download its config.json and "
        "model.safetensors elsewhere into a folder and give --model.backbone local-dir:FOLDER, or give a timm name "
        "and --model.weights model.safetensors"
    )


def _make(name: str, cfg: dict, args: dict, **location: Any) -> Architecture:
    """Build an Architecture from the content of a config.json. Raises ValueError if it is not valid."""
    if not timm.is_model(name):
        raise ValueError(f"config.json: timm has no architecture {name!r}{did_you_mean(str(name), timm.list_models())}")
    args = {key: value for key, value in args.items() if value is not None and key != "num_classes"}
    return Architecture(name, _checked_cfg(timm.models.PretrainedCfg(**cfg).to_dict()), args, **location)


def _checked_cfg(cfg: dict[str, Any]) -> dict[str, Any]:
    """Return the pretrained_cfg. Raises ValueError if its mean, std or input_size is not valid."""
    triples = [cfg[key] for key in ("mean", "std", "input_size") if key in cfg]
    if not all(
        isinstance(triple, list | tuple) and len(triple) == 3 and all(map(_is_plain_number, triple))
        for triple in triples
    ):
        raise ValueError("mean, std or input_size of its pretrained_cfg is not a list of three numbers")
    if "std" in cfg and min(cfg["std"]) <= 0:
        raise ValueError("std of its pretrained_cfg is not positive")
    return cfg


def _is_plain_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def go_offline_without_network() -> None:
    """Use only the local cache if no proxy is set and the hub's host name can't be resolved.

    Without this, huggingface_hub would retry for most of a minute.
    """
    if any(name in os.environ for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    try:
        socket.getaddrinfo(urlparse(huggingface_hub.constants.ENDPOINT).hostname, 443)
    except OSError:
        huggingface_hub.constants.HF_HUB_OFFLINE = True
