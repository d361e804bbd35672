"""Weight files: read whatever their name, loaded into a timm model, refused where they are another model's."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import clean_state_dict, load_state_dict_from_hf
from torch import nn

from maskfold.errors import UserError, first_line
from maskfold.models.architecture import FAULTS, Architecture, go_offline_without_network, missing_repository

State = dict[str, torch.Tensor]
# What a pickle or a zip file, in which torch.save writes, begins with.
TORCH_MAGIC = (b"PK\x03\x04", b"\x80")
# As timm looks for them in a model folder.
IN_FOLDER: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
IN_FOLDER += ("*.safetensors", "*.pth", "*.bin")


def read_state(path: Path, key: str) -> State:
    """All tensors of a safetensors file or a PyTorch checkpoint; the content decides which, not the name.

    Raises UserError naming the configuration key for a missing file or another format.
    """
    if not path.is_file():
        raise UserError(f"{key}: {path}: no such file")
    try:
        with path.open("rb") as file:
            begin = file.read(9)
        # A safetensors file is a length of eight bytes and JSON; the length may look like the others' beginning.
        is_torch = begin.startswith(TORCH_MAGIC) and begin[8:] != b"{"
        return _read_torch(path) if is_torch else load_file(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, OSError, EOFError, KeyError) as fault:
        raise UserError(
            f"{key}: {path} is no readable safetensors file or PyTorch checkpoint of tensors ({first_line(fault)}); "
            "convert it to safetensors or download it again"
        ) from fault


def _read_torch(path: Path) -> State:
    """The tensors of what torch.save wrote, an EMA's first as timm chooses; no code in the file is run."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise ValueError("it holds no dictionary of tensors")
    names = ("state_dict_ema", "model_ema", "state_dict", "model")
    content = next((content[name] for name in names if isinstance(content.get(name), dict)), content)
    state = {name: value for name, value in clean_state_dict(content).items() if isinstance(value, torch.Tensor)}
    if not state:
        raise ValueError("it holds no tensors")
    return state


def weights_in(folder: Path) -> Path:
    """The weights file of a timm model folder. Raises UserError where it has none."""
    for pattern in IN_FOLDER:
        if found := sorted(folder.glob(pattern)):
            return found[0]
    raise UserError(
        f"model.pretrained: {folder} holds no weights (*.safetensors); add them, give --model.weights, or start from "
        "none (--model.pretrained false)"
    )


def state_of_hub(repository: str) -> State:
    """The weights of a repository of the Hugging Face hub or of its cache. Raises UserError where there are none."""
    go_offline_without_network()
    try:
        return load_state_dict_from_hf(repository, weights_only=True)
    except (*FAULTS, pickle.UnpicklingError, SafetensorError) as fault:
        raise missing_repository(repository, fault) from fault


def create_loaded(architecture: Architecture, options: dict, state: State, origin: str) -> nn.Module:
    """A timm model without classifier (`options` has num_classes 0) with the weights in `state`.

    timm loads them: it translates other projects' names and resizes position embeddings to the input. Raises
    UserError, beginning with `origin`, where a tensor of the model is missing or one in `state` has no place in it.
    """
    own = architecture.create(options).state_dict()
    overlay = {"state_dict": state, "source": None, "file": None, "custom_load": False, "label_offset": None}
    missing, surplus, fault_text = set(), set(), ""
    try:
        with _observed() as results:
            backbone = architecture.create(options, pretrained=True, pretrained_cfg_overlay=overlay)
    # timm's translation of a file that is not this model's fails in whatever way its code meets it.
    except Exception as fault:
        fault_text = f" ({first_line(fault)})"
    else:
        backbone.pretrained_cfg.pop("state_dict")
        missing, surplus = (set(keys) for keys in results[-1])
    if surplus:
        surplus -= _classifier_tensors(architecture, options, own)
    if not (missing or surplus or fault_text):
        return backbone
    fitting = [name for name in own if name in state and state[name].shape == own[name].shape]
    raise UserError(
        f"{origin} does not fit {architecture.name}: {len(fitting)} of its {len(own)} tensors do, and "
        f"the file holds {len(surplus or state.keys() - own.keys())} that it does not know{fault_text}; give the file "
        "of this very timm model"
    )


def _classifier_tensors(architecture: Architecture, options: dict, own: State) -> set[str]:
    """Names of the tensors that the model has with a classifier only: layers, their batch norm, a second head."""
    return architecture.create({**options, "num_classes": 2}).state_dict().keys() - own.keys()


@contextmanager
def _observed() -> Iterator[list[Any]]:
    """Collect what each load_state_dict in the block returns: (missing keys, unexpected keys).

    timm reports no misfit to its caller: it logs what is missing or unexpected, where it does not load strictly.
    """
    results, original = [], nn.Module.load_state_dict

    def observed(module: nn.Module, state_dict: State, strict: bool = True, assign: bool = False) -> Any:
        result = original(module, state_dict, strict=False, assign=assign)
        results.append(result)
        # Nothing to log: the classifier's tensors are left over in every file.
        return type(result)([], [])

    nn.Module.load_state_dict = observed
    try:
        yield results
    finally:
        nn.Module.load_state_dict = original
