"""The photos and loaders of a part of a run, and its validation photos predicted by all processes."""

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from maskfold.config.experiment import Config
from maskfold.loading.dataset import PhotoDataset
from maskfold.loading.photo_loader import PhotoLoader
from maskfold.loading.sampler import Batches, training_batches
from maskfold.loading.store import Store, Stores
from maskfold.loading.transforms import EvalTransform, train_transform
from maskfold.models.classifier import Classifier
from maskfold.models.device import DTYPES, Hardware, pick_workers
from maskfold.models.prediction import predict
from maskfold.training.feature_cache import FeatureLoader, Features
from maskfold.training.fold_job import Part


@dataclass(frozen=True)
class Photos:
    """All that a part may look at: stores one after the other, and for each of their rows label, age and weight [N]."""

    stores: tuple[Store, ...]
    labels: np.ndarray
    ages: np.ndarray
    weights: np.ndarray


class FoldData:
    """The loaders of a part: `train` and `valid` for its epochs, `eval_photos` for its last prediction."""

    def __init__(self, config: Config, part: Part, photos: Photos, model: Classifier, accelerator: Accelerator):
        self.accelerator, self.part, self.labels = accelerator, part, photos.labels
        self.predict_on = Hardware(accelerator.device, DTYPES[config.run.predict_precision])
        data, size = config.data, config.optim.batch_size
        rank, world = accelerator.process_index, accelerator.num_processes
        batches = training_batches(config, part.train_rows, photos.labels, rank, world)
        # Neighbouring rows for each process: put together they are in order again.
        valid_batches = Batches(np.array_split(part.valid_rows, world)[rank], size, shuffle=False)
        workers, pin = pick_workers(data.num_workers, accelerator.device), accelerator.device.type == "cuda"
        store, labels = Stores(photos.stores), photos.labels
        self.eval_photos = PhotoLoader(PhotoDataset(store, labels, EvalTransform(data)), valid_batches, workers, pin)
        self.train: PhotoLoader | FeatureLoader
        self.valid: PhotoLoader | FeatureLoader
        if caches_features(config):
            features = Features(model, photos.stores, data, size, workers)
            views = ("none",) if data.augment == "none" else ("none", "hflip")
            self.train = FeatureLoader(features, labels, batches, views, self.predict_on)
            self.valid = FeatureLoader(features, labels, valid_batches, ("none",), self.predict_on)
        else:
            dataset = PhotoDataset(store, labels, train_transform(data), config.seed)
            self.train, self.valid = PhotoLoader(dataset, batches, workers, pin), self.eval_photos

    def close(self) -> None:
        """End the loaders' processes."""
        for loader in (self.train, self.valid, self.eval_photos):
            loader.close()

    def predict(self, model: torch.nn.Module, loader: "PhotoLoader | FeatureLoader") -> tuple[np.ndarray, np.ndarray]:
        """(rows, probabilities [N, 18]) of all validation photos, each once and in order, on every process."""
        mine = [predict([model], loader, self.predict_on)] if len(loader.batch_sampler) else []
        pieces = gather_object(mine) if self.accelerator.num_processes > 1 else mine
        rows, probs = zip(*pieces, strict=True)
        return np.concatenate(rows), np.concatenate(probs, axis=1)[0]


def caches_features(config: Config) -> bool:
    """Whether the head alone is trained, on features computed once."""
    return config.model.frozen_epochs == "all" and config.model.cache_features
