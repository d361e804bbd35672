"""The parts of timm that this package uses, imported without libraries that this package does not need.

timm imports torchvision for a class that this package does not create, and torchvision imports torch's compiler
(torch._dynamo). timm also imports W&B for a function that this package never calls. Importing these three takes longer
than importing torch and timm. Other code in the same process can still use all of timm.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

# Modules that are hidden from timm while it is imported. Afterwards, _add_optional() gives timm what it needs of them.
FEATURE_EXTRACTION, DISTRIBUTED_TENSOR = "torchvision.models.feature_extraction", "torch.distributed.tensor"
OPTIONAL = ("wandb", FEATURE_EXTRACTION, DISTRIBUTED_TENSOR)
COMPILER = "torch._dynamo"
TORCHVISION_LAYERS = "torchvision.ops.misc"


class _Compiler:
    """Stands in for torch._dynamo, and keeps the settings that timm's optimiser kron changes when it is imported."""

    def __init__(self) -> None:
        self.config = SimpleNamespace()

    def __getattr__(self, name: str) -> Any:
        # Another version of timm may import the compiler. During that import, the compiler's submodules look each other
        # up as attributes of torch._dynamo, which is this object.
        if (part := sys.modules.get(f"{COMPILER}.{name}")) is None:
            raise AttributeError(name)
        return part


_compiler = _Compiler()


class _StandInType(type):
    """Metaclass of a stand-in for a class of the module `module`: instances of the real class are its instances."""

    module: str

    def __instancecheck__(cls, instance: object) -> bool:
        real = getattr(sys.modules.get(cls.module), cls.__name__, cls)
        return real is not cls and isinstance(instance, real)


class FrozenBatchNorm2d(torch.nn.Module, metaclass=_StandInType):
    """Stands in for torchvision's layer of this name. A call imports torchvision and returns the real layer."""

    module = TORCHVISION_LAYERS

    def __new__(cls, *args: Any, **options: Any) -> Any:
        return importlib.import_module(TORCHVISION_LAYERS).FrozenBatchNorm2d(*args, **options)


class DTensor(metaclass=_StandInType):
    """Stands in for torch's class of this name, which timm's optimiser muon uses only in isinstance checks."""

    module = DISTRIBUTED_TENSOR


class _LazyModule:
    """Stands in for a module, which is imported when one of its attributes is read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


def _lazy_function(module: str, name: str) -> Callable[..., Any]:
    """A function that imports `module` and calls the module's function `name`."""
    return lambda *args, **options: getattr(importlib.import_module(module), name)(*args, **options)


def _add_optional() -> None:
    """Give timm what it did not find in the hidden modules, for other code in this process.

    The real modules are imported when the functions are called.
    """
    fx, muon, summary = (vars(sys.modules[f"timm.{name}"]) for name in ("layers._fx", "optim.muon", "utils.summary"))
    if not fx["has_fx_feature_extraction"] and importlib.util.find_spec("torchvision"):
        for name in ("create_feature_extractor", "get_graph_node_names"):
            fx[f"_{name}"] = _lazy_function(FEATURE_EXTRACTION, name)
        fx["has_fx_feature_extraction"] = True
    if not muon["has_dtensor"] and torch.distributed.is_available():
        muon |= {"DTensor": DTensor, "has_dtensor": True}
    if "wandb" not in summary and importlib.util.find_spec("wandb"):
        summary["wandb"] = _LazyModule("wandb")


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Replace modules that timm imports but models do not need. After the block, the real ones can be imported."""
    misc = ModuleType(TORCHVISION_LAYERS)
    # The timm code that this package calls uses this class only in isinstance checks.
    vars(misc)["FrozenBatchNorm2d"] = FrozenBatchNorm2d
    stand_ins = {TORCHVISION_LAYERS: misc, "timm.data": _timm_constants(), **dict.fromkeys(OPTIONAL)}
    # Modules that are already imported are not replaced, because they cost nothing.
    inserted = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    modules: dict[str, Any] = sys.modules
    # A module that is None in sys.modules raises ImportError when it is imported.
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
    """Like torch.compiler.disable, but import the compiler when `fn` is called, not when it is defined."""
    return torch._disable_dynamo(fn, recursive)


def prepare_compiler() -> None:
    """Apply timm's settings to torch's compiler. Call this before anything is compiled."""
    for name, value in vars(_compiler.config).items():
        setattr(torch._dynamo.config, name, value)


def _timm_constants() -> ModuleType:
    """A module with the constants of timm.data. timm's models need nothing else from timm.data."""
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
    """Import timm with the stand-ins. If this fails, because another version of timm needs more, import it as usual."""
    try:
        with _stand_ins():
            library = _import_parts()
        _add_optional()
    except (ImportError, AttributeError, KeyError, OSError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
            del sys.modules[name]
        return _import_parts()
    return library


def _import_parts() -> Any:
    for name in ("timm.optim", "timm.utils"):
        importlib.import_module(name)
    timm = importlib.import_module("timm")
    if "data" not in vars(timm):
        vars(timm)["__getattr__"] = _import_data
    return timm


def _import_data(name: str) -> ModuleType:
    """Import timm.data when this attribute of timm is first read. A usual import of timm loads it at once."""
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
