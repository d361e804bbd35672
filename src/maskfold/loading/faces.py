"""Face detection with OpenCV's YuNet (Wu, Peng & Yu 2023), which also finds masked faces."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING

import cv2
import numpy as np

from maskfold.config.experiment import Data
from maskfold.labels import MASKS
from maskfold.loading.crops import CROPS, Box

if TYPE_CHECKING:
    import pandas as pd

MODEL = "face_detection_yunet_2023mar.onnx"
# Photos are shrunk for detection until their longer side has this many pixels. The face in a portrait then measures
# about 160 pixels; YuNet detects faces of 10 to 300 pixels.
DETECT_SIDE = 320
MIN_SCORE = 0.6

_thread = threading.local()


def find_face(image: np.ndarray) -> Box | None:
    """Return the largest face in RGB uint8 [H, W, 3]: (left, top, width, height) in pixels; None if none is found."""
    scale = min(1.0, DETECT_SIDE / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) if scale < 1 else image
    detector = _detector()
    detector.setInputSize((width, height))
    _, faces = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    if faces is None:
        return None
    left, top, face_width, face_height = max(faces[:, :4].tolist(), key=lambda box: box[2] * box[3])
    return left / scale, top / scale, face_width / scale, face_height / scale


def face_for_crop(image: np.ndarray, data: Data) -> Box | None:
    """Return find_face(image) if data.crop needs a face, else None."""
    return find_face(image) if CROPS[data.crop].needs_face else None


def _detector() -> cv2.FaceDetectorYN:
    # Each thread has its own detector, since a detector keeps the size and the activations of its last photo.
    if not hasattr(_thread, "detector"):
        model = np.frombuffer(files("maskfold.loading").joinpath("yunet", MODEL).read_bytes(), np.uint8)
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        _thread.detector = cv2.FaceDetectorYN.create("onnx", model, np.empty(0, np.uint8), (1, 1), MIN_SCORE)
        cv2.utils.logging.setLogLevel(level)
    return _thread.detector


def face_rate_by_mask(table: pd.DataFrame, has_face: Iterable[bool]) -> dict[str, float]:
    """Return the share of photos with a face, over all photos and, if the table has a column `mask`, per mask class."""
    import pandas as pd

    flags = pd.Series(list(has_face), index=table.index)
    rates = {"all": float(flags.mean())}
    if "mask" in table:
        rates |= {name: float(flags[table["mask"] == index].mean()) for index, name in enumerate(MASKS)}
    return rates
