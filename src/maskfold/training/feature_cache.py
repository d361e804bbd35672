"""Features of a frozen backbone, computed once per view and kept beside the photos' store, for all folds and runs."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from maskfold.config.experiment import Data
from maskfold.fileio import locked, write_atomic
from maskfold.loading.dataset import NO_LABEL, PhotoDataset
from maskfold.loading.photo_loader import PhotoLoader
from maskfold.loading.sampler import Batches
from maskfold.loading.store import Store
from maskfold.loading.transforms import EvalTransform, sample_seeds
from maskfold.models.classifier import Classifier
from maskfold.models.device import Hardware
from maskfold.models.prediction import predict
from maskfold.progress import progress


class Features:
    """Rows of some stores -> float32 [N, F] features of a backbone, each view computed when it is first asked for."""

    def __init__(self, model: Classifier, stores: Sequence[Store], data: Data, batch_size: int, workers: int):
        self.model, self.stores, self.transform, self.size = model, stores, EvalTransform(data), data.image_size
        self.batch_size, self.workers = batch_size, workers
        self._weights: str | None = None
        self._views: dict[Path, np.ndarray] = {}

    def view(self, name: str, hardware: Hardware) -> np.ndarray:
        """float32 [N, F]: from files where these weights computed it before, on these photos, in this precision."""
        return np.concatenate([self._of_store(store, name, hardware) for store in self.stores])

    def _of_store(self, store: Store, name: str, hardware: Hardware) -> np.ndarray:
        # Two sizes of input may share a store.
        key = f"{self.weights_hash()} {store.path.name} {self.size} {name} {hardware.dtype}"
        path = store.path.parent / f"features-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
        if path not in self._views:
            with locked(path.parent):
                if not path.exists():
                    computed = self._compute(store, name, hardware)
                    write_atomic(path, lambda beside: np.save(beside, computed))
            self._views[path] = np.load(path)
        return self._views[path]

    def weights_hash(self) -> str:
        """Of the backbone's tensors and its normalisation: what the features depend on beside the photos."""
        if self._weights is None:
            digest = hashlib.sha256()
            tensors = {**self.model.backbone.state_dict(), "mean": self.model.mean, "std": self.model.std}
            for name, tensor in tensors.items():
                digest.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
            self._weights = digest.hexdigest()
        return self._weights

    def _compute(self, store: Store, view: str, hardware: Hardware) -> np.ndarray:
        batches = Batches(np.arange(len(store)), self.batch_size, shuffle=False)
        with (
            PhotoLoader(PhotoDataset(store, None, self.transform), batches, self.workers, pin=False) as loader,
            progress(f"features ({view})", len(store), "images") as advance,
        ):
            _, [features] = predict([self.model], loader, hardware, (view,), "features", advance)
        return features


class FeatureLoader:
    """Batches as a photo loader gives them, with features [B, F] for images.

    Of several views each row gets one a time, seeded by (seed, epoch, row, visit): what a flip is to photos.
    """

    def __init__(
        self, features: Features, labels: np.ndarray, batches: Batches, views: tuple[str, ...], hardware: Hardware
    ):
        self.features, self.labels, self.batch_sampler = features, labels, batches
        self.views, self.hardware = views, hardware

    def close(self) -> None:
        """Nothing of it outlives it."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        views = [self.features.view(name, self.hardware) for name in self.views]
        for batch in self.batch_sampler:
            epochs, asked, visits = np.array(batch).T
            rows = np.where(asked < 0, ~asked, asked)
            labels = np.where(asked < 0, NO_LABEL, self.labels[rows])
            seeds = sample_seeds(self.batch_sampler.seed, int(epochs[0]), rows, visits)
            picks = [first % len(views) for first, _ in seeds]
            images = np.stack([views[pick][row] for pick, row in zip(picks, rows, strict=True)])
            yield torch.from_numpy(images), torch.from_numpy(labels), torch.from_numpy(rows)
