"""The photos and data loaders of a part (a fold or the refit), and the prediction of its validation photos."""

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from maskfold.config.experiment import Config
from maskfold.data.images_table import Prepared
from maskfold.loading.dataset import PhotoDataset
from maskfold.loading.feature_cache import FeatureLoader, Features
from maskfold.loading.photo_loader import PhotoLoader
from maskfold.loading.sampler import PhotoBatchSampler, train_batch_sampler
from maskfold.loading.store import ConcatStore, Store
from maskfold.loading.transforms import EvalTransform, make_train_transform
from maskfold.models.classifier import Classifier
from maskfold.models.device import Hardware, pick_workers
from maskfold.models.prediction_loop import predict
from maskfold.training.fold_job import Part


@dataclass(frozen=True)
class TrainingPhotos:
    """The photos of a part: one or more stores, whose rows are numbered consecutively.

    labels, ages (in years) and weights (in the loss): [N] each, one value per row of the stores. train_rows, val_rows:
    int, the rows for training and for validation. pseudo_hash: the SHA-256 of the part's pseudo.csv; empty if
    pseudo.runs is not set.
    """

    stores: tuple[Store, ...]
    labels: np.ndarray
    ages: np.ndarray
    weights: np.ndarray
    train_rows: np.ndarray
    val_rows: np.ndarray
    pseudo_hash: str = ""

    @classmethod
    def of_part(cls, prepared: Prepared, store: Store, part: Part) -> "TrainingPhotos":
        """The photos of a part, without pseudo-labelled photos. store: the store of all training photos."""
        images = prepared.images
        labels, ages, weights = images.label.to_numpy(), images.age.to_numpy(), np.ones(len(images))
        return cls((store,), labels, ages, weights, part.train_rows, part.val_rows)


class FoldData:
    """The data loaders of a part.

    The epochs use train_loader and val_loader, which may load cached features in place of photos. The predictions of
    the final weights use val_photo_loader, which always loads photos.
    """

    def __init__(self, config: Config, photos: TrainingPhotos, model: Classifier, accelerator: Accelerator):
        self.accelerator, self.photos = accelerator, photos
        self.hardware = Hardware.of(accelerator.device, config.run.predict_precision)
        data, batch_size = config.data, config.optim.batch_size
        rank, world_size = accelerator.process_index, accelerator.num_processes
        train_batches = train_batch_sampler(config, photos.train_rows, photos.labels, rank, world_size)
        # Each process predicts a contiguous block of rows, so that the gathered predictions are in order.
        val_rows = np.array_split(photos.val_rows, world_size)[rank]
        val_batches = PhotoBatchSampler(val_rows, batch_size, shuffle=False)
        workers, pin = pick_workers(data.num_workers, accelerator.device), accelerator.device.type == "cuda"
        store, labels = ConcatStore(photos.stores), photos.labels
        val_dataset = PhotoDataset(store, labels, EvalTransform(data))
        self.val_photo_loader = PhotoLoader(val_dataset, val_batches, workers, pin)
        self.train_loader: PhotoLoader | FeatureLoader
        self.val_loader: PhotoLoader | FeatureLoader
        if config.uses_cached_features:
            features = Features(model, photos.stores, data, batch_size, workers)
            views = ("none",) if data.augment == "none" else ("none", "hflip")
            self.train_loader = FeatureLoader(features, labels, train_batches, views, self.hardware)
            self.val_loader = FeatureLoader(features, labels, val_batches, ("none",), self.hardware)
        else:
            train_dataset = PhotoDataset(store, labels, make_train_transform(data), config.seed)
            self.train_loader = PhotoLoader(train_dataset, train_batches, workers, pin)
            self.val_loader = self.val_photo_loader

    def close(self) -> None:
        """End the worker processes of the data loaders."""
        for loader in (self.train_loader, self.val_loader, self.val_photo_loader):
            loader.close()

    def predict(self, model: torch.nn.Module, loader: "PhotoLoader | FeatureLoader") -> tuple[np.ndarray, np.ndarray]:
        """Predict all validation photos; return (rows int [N] in order, probs float32 [N, 18]) in every process."""
        predictions = [predict([model], loader, self.hardware)] if len(loader.batch_sampler) else []
        gathered = gather_object(predictions) if self.accelerator.num_processes > 1 else predictions
        rows, probs = zip(*gathered, strict=True)
        return np.concatenate(rows), np.concatenate(probs, axis=1)[0]
