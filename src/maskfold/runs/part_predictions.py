"""Finished parts of runs over rows of a store: what inference, pseudo-labels and the audit predict with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskfold.config.experiment import Config
from maskfold.loading.dataset import PhotoDataset
from maskfold.loading.photo_loader import PhotoLoader
from maskfold.loading.sampler import PhotoBatchSampler
from maskfold.loading.store import Store
from maskfold.loading.transforms import EvalTransform
from maskfold.models.classifier import Classifier
from maskfold.models.device import Hardware, free_device_memory, pick_workers
from maskfold.models.prediction import predict
from maskfold.runs.part_weights import finished_model
from maskfold.runs.run_folder import RunFolder


@dataclass(frozen=True)
class PartRows:
    """Rows of a store, int [N], that the model of a finished part is to look at; config: that of the run."""

    run: RunFolder
    config: Config
    part: str
    store: Store
    rows: np.ndarray
    hardware: Hardware

    @property
    def model_key(self) -> tuple[Path, str, Hardware]:
        return self.run.folder, self.part, self.hardware

    @property
    def photos_key(self) -> tuple:
        """What the model sees, and in which batches: its output depends on no other model, not even in the last bit."""
        config = self.config
        sizes = (config.data.image_size, config.optim.batch_size)
        return self.store.path, *sizes, self.rows.tobytes(), self.hardware

    def load(self) -> Classifier:
        return finished_model(self.run, self.config, self.part, self.hardware.device)


def predict_parts(
    wanted: Sequence[PartRows],
    views: Sequence[str] = ("none",),
    output: str = "probs",
    on_batch: Callable[[int], object] = lambda photos: None,
) -> list[np.ndarray]:
    """float32 [N, C] for each of `wanted`: its model's `output` (see models.prediction.OUTPUTS), the mean of the views.

    Photos are read once for all models that see them alike. A model is loaded when it is first needed, and freed after
    the last photos that it is wanted for. on_batch is called with the number of photos times models after each batch.
    """
    groups: dict[tuple, list[int]] = {}
    for number, each in enumerate(wanted):
        groups.setdefault(each.photos_key, []).append(number)
    last_group = {wanted[number].model_key: key for key, numbers in groups.items() for number in numbers}
    models: dict[tuple, Classifier] = {}
    outputs: dict[int, np.ndarray] = {}
    for key, numbers in groups.items():
        members, first = [wanted[number] for number in numbers], wanted[numbers[0]]
        for member in members:
            if member.model_key not in models:
                models[member.model_key] = member.load()
        device, data = first.hardware.device, first.config.data
        dataset = PhotoDataset(first.store, None, EvalTransform(data))
        batches = PhotoBatchSampler(first.rows, first.config.optim.batch_size, shuffle=False)
        workers = pick_workers(data.num_workers, device)
        with PhotoLoader(dataset, batches, workers, pin=device.type == "cuda") as loader:
            group_models = [models[member.model_key] for member in members]
            _, computed = predict(group_models, loader, first.hardware, views, output, on_batch)
        outputs |= dict(zip(numbers, computed, strict=True))
        models = {model_key: model for model_key, model in models.items() if last_group[model_key] != key}
        del group_models, loader
        free_device_memory(device)
    return [outputs[number] for number in range(len(wanted))]
