"""Read weight files, load them into a timm model, and refuse the files of other models."""

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file
from torch import nn

from maskfold.errors import UserError, first_line
from maskfold.fileio import check_readable
from maskfold.models.architecture import (
    LOAD_ERRORS,
    Architecture,
    build_error,
    go_offline_without_network,
    repository_error,
)
from maskfold.models.timm_library import clean_state_dict, load_state_dict_from_hf
from maskfold.models.torch_file import load_torch_file

StateDict = dict[str, torch.Tensor]
# First bytes of a zip file and of a pickle, the two formats of torch.save.
TORCH_MAGIC = (b"PK\x03\x04", b"\x80")
# File names in a model folder, in the order in which timm looks for them.
WEIGHTS_FILES: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
WEIGHTS_FILES += ("*.safetensors", "*.pth", "*.bin")


def read_safetensors(path: Path) -> tuple[StateDict, dict[str, str]]:
    """Return (tensors, metadata) of a safetensors file. Raises SafetensorError for another format."""
    try:
        with safe_open(path, "pt") as file:
            return load_file(path), file.metadata() or {}
    except OSError:
        # The file system does not support memory maps. Reading the whole file takes twice the memory of the weights.
        content = path.read_bytes()
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return tensors, header.get("__metadata__") or {}


def read_state_dict(path: Path, key: str) -> StateDict:
    """Read a safetensors file or a PyTorch checkpoint; the format is recognised by the content, not by the name.

    key: the configuration key, for messages. Raises UserError for a missing file or another format.
    """
    if not path.is_file():
        raise UserError(f"{key}: {path}: no such file; give the path of a weights file")
    try:
        with path.open("rb") as file:
            first_bytes = file.read(9)
        # A safetensors file begins with the length of its header in eight bytes, and these may look like TORCH_MAGIC.
        # The ninth byte is then a brace, because the header is JSON.
        is_torch = first_bytes.startswith(TORCH_MAGIC) and first_bytes[8:] != b"{"
        return _read_torch(path) if is_torch else read_safetensors(path)[0]
    except Exception as error:
        check_readable(path)
        raise UserError(
            f"{key}: {path} is not a readable safetensors file or PyTorch checkpoint ({first_line(error)}); "
            "convert it to safetensors or download it again"
        ) from error


def _read_torch(path: Path) -> StateDict:
    """Return the state dict in a torch.save file. If it also contains the EMA's state dict, return that, as timm does.

    No code in the file is run. Raises ValueError if the file contains no tensors.
    """
    content = load_torch_file(path)
    if not isinstance(content, dict):
        raise ValueError("it contains no dictionary of tensors")
    names = ("state_dict_ema", "model_ema", "state_dict", "model")
    content = next((content[name] for name in names if isinstance(content.get(name), dict)), content)
    state = {name: value for name, value in clean_state_dict(content).items() if isinstance(value, torch.Tensor)}
    if not state:
        raise ValueError("it contains no tensors")
    return state


def find_weights_file(folder: Path) -> Path:
    """Return the path of the weights file in a timm model folder. Raises UserError if there is none."""
    for pattern in WEIGHTS_FILES:
        if paths := sorted(folder.glob(pattern)):
            return paths[0]
    raise UserError(
        f"model.pretrained: {folder} contains no weights (*.safetensors); add them, give --model.weights, or use "
        "random weights (--model.pretrained false)"
    )


def read_hub_state_dict(repository: str) -> StateDict:
    """Read the weights of a Hugging Face hub repository, or their cached copy. Raises UserError if there are none."""
    go_offline_without_network()
    try:
        return load_state_dict_from_hf(repository, weights_only=True)
    except (*LOAD_ERRORS, pickle.UnpicklingError, SafetensorError) as error:
        raise repository_error(repository, error) from error


def create_with_weights(architecture: Architecture, options: dict, state: StateDict, origin: str) -> nn.Module:
    """Build a timm model without a classifier (`options` has num_classes 0) and load `state`.

    timm translates the tensor names of other projects, and resizes position embeddings to the input size.
    origin: the source of the weights, for the start of error messages. Raises UserError if `state` lacks a tensor of
    the model, or if it has a tensor that belongs neither to the model nor to a classifier.
    """
    try:
        expected = architecture.create(options).state_dict()
    except LOAD_ERRORS as error:
        raise build_error(architecture.name, error) from error
    overlay = {"state_dict": state, "source": None, "file": None, "custom_load": False, "label_offset": None}
    missing, unexpected, reason = set(), set(), ""
    try:
        with _recording_load_results() as results:
            backbone = architecture.create(options, pretrained=True, pretrained_cfg_overlay=overlay)
    # timm's translation of the weights of another model may raise any exception.
    except Exception as error:
        reason = f" ({first_line(error)})"
    else:
        backbone.pretrained_cfg.pop("state_dict")
        missing, unexpected = (set(keys) for keys in results[-1])
    if unexpected:
        unexpected -= _classifier_tensors(architecture, options, expected)
    if not (missing or unexpected or reason):
        return backbone
    fitting = [name for name in expected if name in state and state[name].shape == expected[name].shape]
    raise UserError(
        f"{origin} does not fit {architecture.name}: it contains {len(fitting)} of the {len(expected)} tensors of the "
        f"model, and {len(unexpected or state.keys() - expected.keys())} tensors that the model does not have{reason}; "
        "give the weights of exactly this timm model"
    )


def _classifier_tensors(architecture: Architecture, options: dict, without_classifier: StateDict) -> set[str]:
    """Return the names of tensors that exist only with a classifier: its layers, their batch norm, a second head."""
    return architecture.create({**options, "num_classes": 2}).state_dict().keys() - without_classifier.keys()


@contextmanager
def _recording_load_results() -> Iterator[list[Any]]:
    """Within the block, collect the result of each load_state_dict call: (missing keys, unexpected keys).

    timm does not return these keys. It only logs them, and only if it does not load strictly.
    """
    results, original = [], nn.Module.load_state_dict

    def recording(module: nn.Module, state_dict: StateDict, strict: bool = True, assign: bool = False) -> Any:
        result = original(module, state_dict, strict=False, assign=assign)
        results.append(result)
        # Return empty lists, so that timm logs nothing: most files have a classifier's tensors, which are unexpected.
        return type(result)([], [])

    nn.Module.load_state_dict = recording
    try:
        yield results
    finally:
        nn.Module.load_state_dict = original
