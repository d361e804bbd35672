"""Which packages the battery needs, and what it does without the others."""

import sys
from importlib.util import find_spec
from types import ModuleType

# {name in an import: name of the package}. The battery imports all of these.
NEEDED = {
    "accelerate": "accelerate",
    "albucore": "albucore==0.0.24",
    "albumentations": "albumentations==2.0.8",
    "cv2": "opencv-python-headless",
    "maskfold": "maskfold (run it from a checkout with PYTHONPATH=src, or pip install -e .)",
    "numpy": "numpy",
    "pandas": "pandas",
    "pydantic": "pydantic",
    "rich": "rich",
    "safetensors": "safetensors",
    "simsimd": "simsimd",
    "stringzilla": "stringzilla",
    "timm": "timm",
    "torch": "torch",
    "yaml": "pyyaml",
}
# The battery runs without these: {name: what is left out}.
OPTIONAL = {
    "cleanlab": "not used",
    "matplotlib": "not used",
    "simplejpeg": "the synthetic photos are not checked for damage",
    "wandb": "not used: W&B is disabled",
}


def missing_needed() -> list[str]:
    """The packages that the battery needs and that can't be imported here, as `pip install` names them."""
    return [package for name, package in NEEDED.items() if find_spec(name) is None]


def missing_optional() -> dict[str, str]:
    """{package that is not installed: what the battery leaves out}."""
    return {name: effect for name, effect in OPTIONAL.items() if find_spec(name) is None}


def replace_simplejpeg() -> None:
    """Without simplejpeg, prepare.py refuses JPEGs. The battery's photos are its own, so here they count as intact."""
    if find_spec("simplejpeg") is None:
        stand_in = ModuleType("simplejpeg")
        stand_in.decode_jpeg = lambda content, *args, **kwargs: None  # type: ignore[attr-defined]
        sys.modules["simplejpeg"] = stand_in
