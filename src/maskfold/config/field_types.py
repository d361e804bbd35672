"""Types of the fields of a configuration, and the base of its sections."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from maskfold.config.choices import Choice
from maskfold.places import can_be_path


def _no_bool(value: Any) -> Any:
    # YAML reads `yes` as true, and pydantic would accept true as the number 1.
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


_PRESET = Choice("loading/augmentations.py", "PRESETS", without="none")


def _preset_or_list(value: Any) -> Any:
    if not isinstance(value, list) and value not in _PRESET.names:
        raise ValueError(f"{', '.join(_PRESET.names)} or a list of albumentations transforms is expected")
    return value


def _possible_path(path: Path) -> Path:
    if not can_be_path(path):
        raise ValueError("a valid path is expected")
    return path


NoBool = BeforeValidator(_no_bool)
# The path of a file or folder.
File = Annotated[Path, AfterValidator(_possible_path)]
Int = Annotated[int, NoBool]
Float = Annotated[float, NoBool]
Pixels = Annotated[int, NoBool, Field(ge=16, le=4096)]
Augment = Annotated[Annotated[str, _PRESET] | list[Any], BeforeValidator(_preset_or_list)]
# W&B's rule for project names.
WandbName = Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")]
MAX_SEED = 2**32 - 1


class ConfigSection(BaseModel):
    """Base of all sections: unknown keys are errors, values cannot be changed, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
