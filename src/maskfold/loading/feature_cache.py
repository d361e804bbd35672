"""Features of a frozen backbone, computed once per TTA view and cached on disk for all folds and runs."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from maskfold.config.experiment import Data
from maskfold.errors import first_line
from maskfold.fileio import write_atomic
from maskfold.loading.dataset import NO_LABEL, Batch, PhotoDataset
from maskfold.loading.photo_loader import PhotoLoader
from maskfold.loading.sampler import PhotoBatchSampler, unpack_keys
from maskfold.loading.store import Store
from maskfold.loading.transforms import EvalTransform, sample_seeds
from maskfold.locks import locked
from maskfold.models.classifier import Classifier
from maskfold.models.device import Hardware
from maskfold.models.prediction_loop import predict, reporting
from maskfold.progress import progress


class Features:
    """Backbone features of all photos in one or more stores, float32 [N, F] per TTA view, computed on first use."""

    def __init__(self, model: Classifier, stores: Sequence[Store], data: Data, batch_size: int, workers: int):
        self.model, self.stores, self.transform, self.size = model, stores, EvalTransform(data), data.image_size
        self.batch_size, self.workers = batch_size, workers
        self._hash: str | None = None
        self._cached: dict[str, np.ndarray] = {}

    def view(self, name: str, hardware: Hardware) -> np.ndarray:
        """Features of all photos in a TTA view, float32 [N, F].

        They are read from the cache if it has them for the same weights and precision, else computed and saved.
        """
        return np.concatenate([self._store_features(store, name, hardware) for store in self.stores])

    def _store_features(self, store: Store, view: str, hardware: Hardware) -> np.ndarray:
        # The input size is in the key because two input sizes may share a store.
        key = f"{self.weights_hash()} {store.path.name} {self.size} {view} {hardware.dtype}"
        name, default = f"features-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy", store.path.parent
        if name not in self._cached:
            paths = (folder / name for folder in store.cache.folders(default))
            features = next((read for path in paths if (read := _read(path, store)) is not None), None)
            if features is None:
                size = len(store) * self.model.backbone.head_hidden_size * 4
                path = store.cache.choose_folder(default, size, "the features of the photos") / name
                with locked(path.parent):
                    features = _read(path, store)
                    if features is None:
                        features = computed = self._compute(store, view, hardware)
                        write_atomic(path, lambda temporary: np.save(temporary, computed))
            self._cached[name] = features
        return self._cached[name]

    def weights_hash(self) -> str:
        """SHA-256 of the backbone's tensors and of the mean and standard deviation that normalise its input."""
        if self._hash is None:
            digest = hashlib.sha256()
            tensors = {**self.model.backbone.state_dict(), "mean": self.model.mean, "std": self.model.std}
            for name, tensor in tensors.items():
                digest.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
            self._hash = digest.hexdigest()
        return self._hash

    def _compute(self, store: Store, view: str, hardware: Hardware) -> np.ndarray:
        batches = PhotoBatchSampler(np.arange(len(store)), self.batch_size, shuffle=False)
        with (
            PhotoLoader(PhotoDataset(store, None, self.transform), batches, self.workers, pin=False) as loader,
            progress(f"features ({view})", len(store), "images") as advance,
        ):
            _, [features] = predict([self.model], reporting(loader, advance), hardware, (view,), "features")
        return features


def _read(path: Path, store: Store) -> np.ndarray | None:
    """Read the features of a store's photos, float32 [N, F].

    Returns None if the file is missing or damaged. A note is printed about a damaged file.
    """
    try:
        features = np.load(path)
        if features.dtype != np.float32 or features.ndim != 2 or len(features) != len(store):
            raise ValueError(f"it contains {features.dtype} {features.shape}, not features of {len(store)} photos")
    except (FileNotFoundError, NotADirectoryError):
        return None
    # A damaged header may raise an error of any type.
    except Exception as error:
        store.cache.note(f"{path}: the features can't be read ({first_line(error)}), so they are computed again")
        return None
    return features


class FeatureLoader:
    """Batches like those of a PhotoLoader, with features [B, F] in place of images.

    With several TTA views, each row gets the features of a randomly chosen view. This replaces the random flip of
    photos. The choice is seeded by (seed, epoch, row, visit); `visit` is explained in PhotoBatchSampler.
    """

    def __init__(
        self,
        features: Features,
        labels: np.ndarray,
        batch_sampler: PhotoBatchSampler,
        views: tuple[str, ...],
        hardware: Hardware,
    ):
        self.features, self.labels, self.batch_sampler = features, labels, batch_sampler
        self.views, self.hardware = views, hardware

    def close(self) -> None:
        """Do nothing: there are no worker processes to end."""

    def __iter__(self) -> Iterator[Batch]:
        views = [self.features.view(name, self.hardware) for name in self.views]
        for keys in self.batch_sampler:
            epoch, rows, visits, has_label = unpack_keys(keys)
            labels = np.where(has_label, self.labels[rows], NO_LABEL)
            seeds = sample_seeds(self.batch_sampler.seed, epoch, rows, visits)
            choices = [first % len(views) for first, _ in seeds]
            features = np.stack([views[choice][row] for choice, row in zip(choices, rows, strict=True)])
            yield Batch(torch.from_numpy(features), torch.from_numpy(labels), torch.from_numpy(rows))
