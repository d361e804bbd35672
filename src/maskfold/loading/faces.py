"""Where the face is: OpenCV's YuNet (Wu, Peng & Yu 2023), which finds masked faces too."""

import threading
from collections.abc import Iterable
from importlib.resources import files

import cv2
import numpy as np
import pandas as pd

from maskfold.config.experiment import Data
from maskfold.labels import MASKS
from maskfold.loading.crops import CROPS, Box

MODEL = "face_detection_yunet_2023mar.onnx"
# YuNet sees faces of 10 to 300 pixels; on photos of this longer side a portrait's face is about half of that.
DETECT_SIDE = 320
LEAST_SCORE = 0.6

_own = threading.local()


def find_face(image: np.ndarray) -> Box | None:
    """uint8 RGB [H, W, 3] -> (left, top, width, height) of the largest face in pixels, or None."""
    shrink = min(1.0, DETECT_SIDE / max(image.shape[:2]))
    height, width = (max(1, round(side * shrink)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) if shrink < 1 else image
    detector = _detector()
    detector.setInputSize((width, height))
    _, found = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    if found is None:
        return None
    left, top, face_width, face_height = max(found[:, :4].tolist(), key=lambda box: box[2] * box[3])
    return left / shrink, top / shrink, face_width / shrink, face_height / shrink


def face_for_crop(image: np.ndarray, data: Data) -> Box | None:
    """find_face where data.crop is cut around it."""
    return find_face(image) if CROPS[data.crop].needs_face else None


def _detector() -> "cv2.FaceDetectorYN":
    # One a thread: it keeps the last photo's size and activations.
    if not hasattr(_own, "detector"):
        model = np.frombuffer(files("maskfold.loading").joinpath("yunet", MODEL).read_bytes(), np.uint8)
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        _own.detector = cv2.FaceDetectorYN.create("onnx", model, np.empty(0, np.uint8), (1, 1), LEAST_SCORE)
        cv2.utils.logging.setLogLevel(level)
    return _own.detector


def found_by_mask(table: pd.DataFrame, found: Iterable[bool]) -> dict[str, float]:
    """Share of photos with a face found: of all, and by mask class where the table knows it."""
    flags = pd.Series(list(found), index=table.index)
    shares = {"all": float(flags.mean())}
    if "mask" in table:
        shares |= {name: float(flags[table["mask"] == at].mean()) for at, name in enumerate(MASKS)}
    return shares
