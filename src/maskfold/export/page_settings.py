"""Settings that the browser page reads: constants of the preprocessing, the classes, facts about the model."""

from typing import Any

from maskfold.config.experiment import Data
from maskfold.data.raw_layout import PHOTO_SIZE
from maskfold.export.page_model import PageModel
from maskfold.labels import AXES
from maskfold.loading.crops import MAX_BILINEAR_SHRINK, store_size
from maskfold.loading.faces import DETECT_SIDE, MIN_SCORE
from maskfold.metrics.calibration import MIN_PROB
from maskfold.photos.color_profiles import MAX_SRGB_DIFFERENCE


def preprocessing_settings(data: Data) -> dict[str, Any]:
    """The settings of view.js and yunet.js. All sizes are [height, width] in pixels."""
    return {
        "crop": data.crop,
        "crop_size": data.crop_size,
        "face_margin": data.face_margin,
        "store_size": store_size(data),
        "image_size": data.image_size,
        "max_bilinear_shrink": MAX_BILINEAR_SHRINK,
        "detect_side": DETECT_SIDE,
        "min_face_score": MIN_SCORE,
    }


def page_settings(model: PageModel) -> dict[str, Any]:
    """All settings of the page: those of the preprocessing, and what the page shows and tests."""
    return preprocessing_settings(model.data) | {
        "name": model.name,
        "num_folds": len(model.graphs),
        "temperature": model.temperature,
        "min_prob": MIN_PROB,
        "max_srgb_difference": MAX_SRGB_DIFFERENCE,
        # Size of the training photos: the camera's picture is cut and scaled to it.
        "photo_size": PHOTO_SIZE,
        "is_decode_reduced": model.data.decode == "reduced",
        "axes": {axis: len(names) for axis, names in AXES.items()},
        "scores": model.scores,
        "check": model.check,
    }
