"""maskfold: mask x gender x age classification, from raw photos to a submission with its expected score.

`maskfold.load_run("runs/NAME").predict(images)` uses a finished run in a notebook or a service.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from maskfold.inference.loaded_run import RunModel

__all__ = ["load_run"]


def load_run(folder: "str | Path") -> "RunModel":
    """Load a finished run for prediction. folder: the run's folder, or its name under runs/.

    Raises UserError if the folder is not a run, if its config.yaml was edited, or if no fold or refit is finished.
    """
    # Imported here because torch takes seconds to import, and `import maskfold` must stay fast.
    from maskfold.inference.loaded_run import RunModel

    return RunModel(folder)
