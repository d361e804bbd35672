"""The metadata (metadata_props) of model.onnx: what a program needs to know besides the graph."""

import json
from collections.abc import Sequence

from maskfold.config.experiment import Config
from maskfold.labels import CLASS_NAMES
from maskfold.runs.run_folder import RunFolder

ONNX_FORMAT = 1


def onnx_metadata(
    run: RunFolder, config: Config, parts: Sequence[str], views: Sequence[str], temperature: float, half: bool
) -> dict[str, str]:
    """Return {key: text}. Lists and numbers are JSON; sizes are [height, width] in pixels.

    git_commit is that of the code that trained the run, `unknown` outside a git checkout.
    """
    data = config.data
    values = {
        "format": ONNX_FORMAT,
        "classes": CLASS_NAMES,
        "image_size": data.image_size,
        "crop": data.crop,
        "crop_size": data.crop_size,
        "face_margin": data.face_margin,
        "run": run.name,
        "models": list(parts),
        "tta": list(views),
        "temperature": temperature,
        "weights": "fp16" if half else "fp32",
        "git_commit": run.provenance.get("git_commit") or "unknown",
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
