"""The parts of timm that this package uses, imported without the libraries that only timm's training scripts need.

timm imports torchvision, which imports the compiler of torch (torch._dynamo), for a class that is not created here,
and W&B for a function that is never called here. Together they take longer to import than torch and timm.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

# Modules that timm finds missing while it is imported; it then leaves out the functions that need them.
OPTIONAL = ("wandb", "torchvision.models.feature_extraction", "torch.distributed.tensor")
COMPILER = "torch._dynamo"
TORCHVISION_LAYERS = "torchvision.ops.misc"


class _Compiler:
    """Stands for torch._dynamo: keeps the settings that timm's optimiser kron makes when it is imported."""

    def __init__(self) -> None:
        self.config = SimpleNamespace()

    def __getattr__(self, name: str) -> Any:
        # Another version of timm may import the compiler; while that happens, its parts look for each other here.
        if (part := sys.modules.get(f"{COMPILER}.{name}")) is None:
            raise AttributeError(name)
        return part


_compiler = _Compiler()


class _StandInType(type):
    """The type of a class that stands for a class of torchvision: layers of the real class are its instances, too."""

    def __instancecheck__(cls, instance: object) -> bool:
        real = getattr(sys.modules.get(TORCHVISION_LAYERS), cls.__name__, cls)
        return real is not cls and isinstance(instance, real)


class FrozenBatchNorm2d(torch.nn.Module, metaclass=_StandInType):
    """Stands for torchvision's layer of this name, which a call of this class imports and creates."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        return importlib.import_module(TORCHVISION_LAYERS).FrozenBatchNorm2d(*args, **options)


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Replace what timm imports and a model does not need; the real modules can be imported afterwards as usual."""
    misc = ModuleType(TORCHVISION_LAYERS)
    # timm's models only ask whether a layer is one of these.
    vars(misc)["FrozenBatchNorm2d"] = FrozenBatchNorm2d
    stand_ins = {TORCHVISION_LAYERS: misc, "timm.data": _timm_constants(), **dict.fromkeys(OPTIONAL)}
    # What is imported already costs nothing.
    inserted = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    modules: dict[str, Any] = sys.modules
    # None makes the import of a module raise ImportError.
    modules.update(inserted)
    disable, has_compiler = torch.compiler.disable, COMPILER in sys.modules
    if not has_compiler:
        torch._dynamo, torch.compiler.disable = _compiler, _disable_when_called
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if vars(torch).get("_dynamo") is _compiler:
            del torch._dynamo
        for name, module in inserted.items():
            if name in sys.modules and sys.modules[name] is module:
                del sys.modules[name]


def _disable_when_called(fn: Any = None, recursive: bool = True, **_: Any) -> Any:
    """torch.compiler.disable, but the compiler is imported when the function is called, not when it is defined."""
    return torch._disable_dynamo(fn, recursive)


def prepare_compiler() -> None:
    """Give torch's compiler the settings of timm; call it before anything is compiled."""
    for name, value in vars(_compiler.config).items():
        setattr(torch._dynamo.config, name, value)


def _timm_constants() -> ModuleType:
    """A module with the constants of timm.data, which are all that timm's models take from it."""
    spec = importlib.util.find_spec("timm")
    assert spec is not None
    assert spec.submodule_search_locations
    path = f"{spec.submodule_search_locations[0]}/data/constants.py"
    constants = importlib.util.spec_from_file_location("timm.data", path)
    assert constants is not None
    assert constants.loader is not None
    module = importlib.util.module_from_spec(constants)
    constants.loader.exec_module(module)
    return module


def _import_timm() -> Any:
    """Import timm without the libraries above, or with them if another version of timm needs more of them."""
    try:
        with _stand_ins():
            return _import_parts()
    except (ImportError, AttributeError, OSError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
            del sys.modules[name]
        return _import_parts()


def _import_parts() -> Any:
    for name in ("timm.optim", "timm.utils"):
        importlib.import_module(name)
    timm = importlib.import_module("timm")
    if "data" not in vars(timm):
        vars(timm)["__getattr__"] = _import_data
    return timm


def _import_data(name: str) -> ModuleType:
    """Import timm.data, which a usual import of timm loads, as soon as somebody reads this attribute of timm."""
    if name != "data":
        raise AttributeError(f"module 'timm' has no attribute {name!r}")
    return importlib.import_module("timm.data")


timm = _import_timm()
set_fused_attn = timm.layers.set_fused_attn
clean_state_dict, load_state_dict_from_hf = timm.models.clean_state_dict, timm.models.load_state_dict_from_hf
load_model_config_from_hf = timm.models._hub.load_model_config_from_hf
load_model_config_from_path = timm.models._hub.load_model_config_from_path
create_optimizer_v2, get_optimizer_class = timm.optim.create_optimizer_v2, timm.optim.get_optimizer_class
list_optimizers = timm.optim.list_optimizers
param_groups_layer_decay = timm.optim.param_groups_layer_decay
param_groups_weight_decay = timm.optim.param_groups_weight_decay
ModelEmaV3 = timm.utils.ModelEmaV3
