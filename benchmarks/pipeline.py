"""The parts of maskfold that are measured, set up as in a training run."""

from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from maskfold.config.experiment import Config, replaced
from maskfold.data.images_table import load_prepared
from maskfold.data.prepared_folder import prepare
from maskfold.data.raw_layout import find_layout
from maskfold.loading.dataset import PhotoDataset
from maskfold.loading.photo_loader import PhotoLoader
from maskfold.loading.sampler import PhotoBatchSampler
from maskfold.loading.store import open_store
from maskfold.loading.transforms import make_train_transform


class Pipeline:
    """Data that is prepared once per scratch folder, and a loader of training batches with the preset light."""

    def __init__(self, data: Path, scratch: Path, backbone: str):
        folder = scratch / "prepared"
        if folder.exists():
            self.prepared = load_prepared(folder)
        else:
            self.prepared = prepare(find_layout(data), folder)
        self.config = replaced(Config(), model={"backbone": backbone}, run={"wandb": "disabled"})
        self.paths = self.prepared.photo_paths(self.prepared.images)

    def loader(self, size: tuple[int, int], workers: int, num_photos: int) -> DataLoader:
        """A loader of `num_photos` photos per pass; those of the data are repeated."""
        data = self.config.data.model_copy(update={"image_size": size})
        store, labels = open_store(self.prepared, self.prepared.images, data), self.prepared.images.label.to_numpy()
        dataset = PhotoDataset(store, labels, make_train_transform(data), self.config.seed)
        batches = PhotoBatchSampler(
            np.resize(np.arange(len(store)), num_photos), self.config.optim.batch_size, shuffle=True
        )
        return PhotoLoader(dataset, batches, workers, pin=False)
