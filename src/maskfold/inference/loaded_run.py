"""A finished run as a model that predicts any photos, for notebooks and services."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.config.experiment import Config, Data
from maskfold.errors import UserError
from maskfold.labels import AGE_GROUPS, AXES, CLASS_NAMES, GENDERS, decode_label, marginals
from maskfold.loading.dataset import Batch, unlabelled_batch
from maskfold.loading.stored_photo import read_stored_photo, stored_pixels
from maskfold.loading.transforms import EvalTransform
from maskfold.models.device import prediction_hardware
from maskfold.models.prediction_loop import predict
from maskfold.models.tta import canonical_views
from maskfold.probabilities import mean_probs
from maskfold.runs.part_weights import finished_model
from maskfold.runs.run_folder import RunFolder, find_run

PROB_COLUMNS = {
    "mask": ("p_mask_worn", "p_mask_incorrect", "p_mask_not_worn"),
    "gender": tuple(f"p_{name}" for name in GENDERS),
    "age": ("p_age_under_30", "p_age_30_59", "p_age_60_plus"),
}
# Names of the age groups in the table of predictions.
AGE_NAMES = dict(zip(AGE_GROUPS, ("under 30", "30-59", "60 and over"), strict=True))
Image = np.ndarray | str | Path


class RunModel:
    """All finished models of a run. Their probabilities are averaged as for a submission.

    Only the run folder is needed, no data. Raises UserError if the folder is not a run, if its config.yaml was edited,
    or if neither a fold nor the refit is finished.
    """

    def __init__(self, folder: str | Path):
        self.run = RunFolder(find_run(Path(folder)))
        self.run.check_unedited()
        self.config: Config = self.run.config
        if not self.run.finished_parts:
            raise UserError(f"{self.run.folder}: no fold is finished; train it first")
        self.hardware = prediction_hardware(self.config.run)
        device = self.hardware.device
        self.models = [finished_model(self.run, self.config, part, device) for part in self.run.finished_parts]

    def predict(self, images: Sequence[Image], tta: Sequence[str] = ("none",)) -> pd.DataFrame:
        """Predict images; the table has one row per image, in the same order.

        images: paths of JPEG or PNG files, or uint8 RGB arrays [H, W, 3] of any size. tta: names of TTA views.
        Columns: path (empty for arrays), label 0..17, mask, gender, age, and the probabilities of their eight classes.
        Raises UserError for an unreadable or damaged file, an array of another shape or dtype, or an unknown TTA view.
        """
        views = canonical_views(tta, "tta")
        probs = self.probs((self._preprocess(image, number) for number, image in enumerate(images)), views)
        paths = [str(image) if isinstance(image, str | Path) else "" for image in images]
        return prediction_table(paths, probs, probs.argmax(1))

    def probs(self, inputs: Iterable[np.ndarray], views: tuple[str, ...]) -> np.ndarray:
        """Return the mean probabilities of all models and views, float32 [N, 18].

        inputs: N preprocessed photos, uint8 [*image_size, 3]; they are read batch by batch. views: as canonical_views
        returns them.
        """
        batches = self._batches(iter(inputs))
        if (first := next(batches, None)) is None:
            return np.empty((0, len(CLASS_NAMES)), np.float32)
        _, model_probs = predict(self.models, chain([first], batches), self.hardware, views)
        return mean_probs(model_probs)

    def _batches(self, inputs: Iterator[np.ndarray]) -> Iterator[Batch]:
        """Yield the inputs in batches of the size that training and submissions use, without labels."""
        start = 0
        while pixels := list(islice(inputs, self.config.optim.batch_size)):
            yield unlabelled_batch(np.stack(pixels), start)
            start += len(pixels)

    def _preprocess(self, image: Image, number: int) -> np.ndarray:
        """Crop and resize a photo as for validation, uint8 [*image_size, 3]. number: its index, for messages."""
        data = self.config.data
        if isinstance(image, str | Path):
            return read_input(Path(image), data)
        if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
            kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise UserError(f"images[{number}]: {kind} is not valid; give a path or a uint8 RGB array [H, W, 3]")
        return preprocessed(np.ascontiguousarray(image), data)


def preprocessed(photo: np.ndarray, data: Data) -> np.ndarray:
    """Crop and resize a photo, RGB uint8 [H, W, 3], as for validation: uint8 [*image_size, 3]."""
    return EvalTransform(data)(stored_pixels(photo, data)[0])


def read_input(path: Path, data: Data) -> np.ndarray:
    """Read a photo file, and crop and resize the photo as for validation: uint8 [*image_size, 3].

    Raises UserError for a missing, unreadable or damaged file.
    """
    return EvalTransform(data)(read_stored_photo(path, data, check_damage=True).pixels)


def prediction_table(paths: Sequence[str], probs: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Return a table with one row per photo. probs: float [N, 18]; labels: int [N], the predicted labels.

    Columns: path, label, mask, gender, age, and the probabilities of the eight classes of these three axes.
    """
    columns = {"path": paths, "label": labels}
    for (axis, names), index in zip(AXES.items(), decode_label(labels), strict=True):
        columns[axis] = [AGE_NAMES.get(names[n], names[n]) for n in index]
    for axis, values in marginals(probs).items():
        columns |= dict(zip(PROB_COLUMNS[axis], values.T, strict=True))
    return pd.DataFrame(columns)
