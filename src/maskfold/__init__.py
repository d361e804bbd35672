"""maskfold: mask x gender x age classification, from raw photos to a submission with an honest expected score.

`maskfold.load_run("runs/NAME").predict(images)` uses a finished run in a notebook or a service.
"""

import importlib
from typing import Any

__all__ = ["load_run"]


def load_run(folder: Any) -> Any:
    """Load a finished run for prediction.

    folder: the run's folder, or its name under runs/. Returns a maskfold.inference.loaded_run.RunModel.
    """
    # Imported here because torch takes seconds to import, and `import maskfold` must stay fast.
    return importlib.import_module("maskfold.inference.loaded_run").RunModel(folder)
