"""maskfold: mask x gender x age classification, from raw photos to a submission with an honest expected score.

`maskfold.load_run("runs/NAME").predict(images)` uses a finished run in a notebook or a service.
"""

import importlib
from typing import Any

__all__ = ["load_run"]


def load_run(folder: Any) -> Any:
    """A finished run's folder, or its name under runs/ -> a maskfold.inference.run_model.RunModel."""
    # Imported on use: torch takes seconds, and `import maskfold` is cheap.
    return importlib.import_module("maskfold.inference.run_model").RunModel(folder)
