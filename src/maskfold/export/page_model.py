"""What the browser page and the model card need of a run."""

from dataclasses import dataclass
from typing import Any

from maskfold.config.experiment import Data


@dataclass(frozen=True)
class PageModel:
    """A model for the browser page.

    graphs: one ONNX file per exported fold, each with its views inside and without temperature: input `photos` uint8
    [B, H, W, 3] RGB, output `probs` float32 [B, 18]. temperature: applied to the mean over the folds as in
    metrics/calibration.apply_temperature. data: the run's config.data. scores: the run's scores as in summary.json; the
    page shows macro_f1 with macro_f1_ci95. check: the content of check.json: inputs, with base64 of uint8 [H, W, 3] in
    `photo` and 18 `probs` each; sources, with base64 of a PNG file in `png` and the SHA-256 of its preprocessed pixels
    in `input_sha256` and 18 `probs` each; and `tolerance`, the largest difference of a probability that passes.
    """

    name: str
    graphs: list[bytes]
    temperature: float
    data: Data
    scores: dict[str, Any]
    check: dict[str, Any]
