"""Example photos of the browser page: synthetic faces, so that no real person is shown."""

import cv2
import numpy as np

from maskfold.synthetic.rendering import render_photo, sample_appearance

# (gender is female, age in years, how the mask is worn) of the examples.
EXAMPLES = (
    (True, 24, "correct"),
    (False, 27, "none"),
    (True, 45, "nose"),
    (False, 52, "correct"),
    (True, 60, "none"),
    (False, 60, "chin"),
)
JPEG_QUALITY = 85


def example_jpegs() -> list[bytes]:
    """The examples as JPEG files of 512 x 384 pixels, the same each time."""
    files = []
    for seed, (female, age, wearing) in enumerate(EXAMPLES):
        rng = np.random.default_rng(seed)
        photo = render_photo(sample_appearance(female, age, rng), wearing, rng)
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        files.append(cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), options)[1].tobytes())
    return files
