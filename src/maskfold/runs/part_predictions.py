"""Predict stored photos with models of finished parts (fold or refit), for inference, pseudo-labels and the audit."""

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
from maskfold.models.prediction_loop import predict, reporting
from maskfold.runs.part_weights import finished_model
from maskfold.runs.run_folder import RunFolder


@dataclass(frozen=True)
class PartRows:
    """A request to predict photos of `store` with the model of a finished part. rows: int [N], the photos' rows."""

    run: RunFolder
    config: Config
    part: str
    store: Store
    rows: np.ndarray
    hardware: Hardware

    @property
    def model_key(self) -> tuple[Path, str, Hardware]:
        """A key that identifies the model."""
        return self.run.folder, self.part, self.hardware

    @property
    def photos_key(self) -> tuple:
        """A key that identifies the photos, their preprocessing and their batches.

        Requests with equal keys share one loader. The batch size is in the key because the last bits of a model's
        output depend on it.
        """
        config = self.config
        sizes = (config.data.image_size, config.optim.batch_size)
        return self.store.path, *sizes, self.rows.tobytes(), self.hardware

    def load(self) -> Classifier:
        """Build the model and load its weights."""
        return finished_model(self.run, self.config, self.part, self.hardware.device)


def predict_parts(
    requests: Sequence[PartRows],
    views: Sequence[str] = ("none",),
    output: str = "probs",
    on_batch: Callable[[int], object] = lambda photos: None,
) -> list[np.ndarray]:
    """Return one array, float32 [N, C], per request: the outputs of its model, averaged over the TTA views.

    output: a key of OUTPUTS; C is 18 for `probs`, and the number of features for `features`. on_batch is called after
    each batch; its argument is the number of photos times the number of models.

    Photos are read only once for all requests with the same photos_key. A model is loaded when it is first needed and
    freed after its last request.
    """
    groups: dict[tuple, list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(request.photos_key, []).append(index)
    last_group = {requests[index].model_key: key for key, indices in groups.items() for index in indices}
    models: dict[tuple, Classifier] = {}
    outputs: dict[int, np.ndarray] = {}
    for key, indices in groups.items():
        group, first = [requests[index] for index in indices], requests[indices[0]]
        for request in group:
            if request.model_key not in models:
                models[request.model_key] = request.load()
        device, data = first.hardware.device, first.config.data
        dataset = PhotoDataset(first.store, None, EvalTransform(data))
        batches = PhotoBatchSampler(first.rows, first.config.optim.batch_size, shuffle=False)
        workers = pick_workers(data.num_workers, device)
        with PhotoLoader(dataset, batches, workers, pin=device.type == "cuda") as loader:
            group_models = [models[request.model_key] for request in group]
            batches_read = reporting(loader, on_batch, len(group))
            _, computed = predict(group_models, batches_read, first.hardware, views, output)
        outputs |= dict(zip(indices, computed, strict=True))
        models = {model_key: model for model_key, model in models.items() if last_group[model_key] != key}
        del group_models, loader, batches_read
        free_device_memory(device)
    return [outputs[index] for index in range(len(requests))]
