"""check.json: inputs with their expected probabilities, so that every user of an export can test it.

The photos are synthetic faces and noise, never photos of the data set.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from maskfold.config.experiment import Data
from maskfold.inference.loaded_run import preprocessed
from maskfold.labels import CLASS_NAMES
from maskfold.synthetic.rendering import render_photo, sample_appearance

CHECK_FORMAT = 1
# Largest difference of a probability that passes.
TOLERANCE = 1e-4
# (gender is female, age in years, how the mask is worn) of the synthetic faces.
FACES = ((True, 24, "none"), (False, 52, "correct"), (True, 60, "nose"), (False, 27, "chin"), (True, 41, "correct"))
# How many of the inputs are written into check.json.
NUM_INPUTS = 3
# Height and width of a source photo that is neither of the size of a training photo nor of the input.
ODD_SIZE = (413, 287)


def face_photos() -> list[np.ndarray]:
    """Photos of synthetic faces, RGB uint8 [512, 384, 3] each, the same each time."""
    photos = []
    for seed, (female, age, wearing) in enumerate(FACES):
        rng = np.random.default_rng(seed)
        photos.append(render_photo(sample_appearance(female, age, rng), wearing, rng))
    return photos


def model_inputs(data: Data) -> dict[str, np.ndarray]:
    """Inputs to compare models with, by name: synthetic faces and noise, uint8 [*image_size, 3] each."""
    noise = np.random.default_rng(0).integers(0, 256, (*data.image_size, 3), np.uint8)
    faces = {f"face {number}": preprocessed(photo, data) for number, photo in enumerate(face_photos())}
    first, *others = faces
    return {first: faces[first], "noise": noise} | {name: faces[name] for name in others}


def source_photos() -> dict[str, np.ndarray]:
    """Whole photos to test crop and resize with, by name: one of the size of a training photo, one of another size."""
    first, second = face_photos()[:2]
    return {"face 0": first, "face 1, resized": cv2.resize(second, ODD_SIZE[::-1], interpolation=cv2.INTER_AREA)}


def check_content(data: Data, inputs: dict[str, np.ndarray], probs: np.ndarray, source_probs: np.ndarray) -> dict:
    """The content of check.json, described in docs/export.md.

    inputs: the result of model_inputs; probs: their probabilities [N, 18]; source_probs: those of source_photos().
    """
    rows = [
        {"name": name, "photo": _base64(photo.tobytes()), "probs": _numbers(row)}
        for (name, photo), row in zip(list(inputs.items())[:NUM_INPUTS], probs[:NUM_INPUTS], strict=True)
    ]
    sources: list[dict[str, Any]] = []
    for (name, photo), row in zip(source_photos().items(), source_probs, strict=True):
        digest = hashlib.sha256(preprocessed(photo, data).tobytes()).hexdigest()
        sources.append(
            {"name": name, "png": _base64(_png(photo)), "input_sha256": digest, "probs": _numbers(row)},
        )
    return {
        "format": CHECK_FORMAT,
        "tolerance": TOLERANCE,
        "classes": list(CLASS_NAMES),
        "input_size": list(data.image_size),
        "inputs": rows,
        "sources": sources,
    }


def _numbers(probs: Sequence[float] | np.ndarray) -> list[float]:
    """Probabilities as JSON numbers. Eight decimals are far below the tolerance."""
    return [round(float(value), 8) for value in probs]


def _png(photo: np.ndarray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))[1].tobytes()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
