"""One part of a run as fold_trainer.py sets it up: model, loaders, optimiser and loss, on any number of photos."""

import time
from collections.abc import Iterable

import numpy as np
import torch

from battery.context import Context
from maskfold.config.experiment import Config, replaced
from maskfold.loading.dataset import Batch
from maskfold.loading.store import open_store
from maskfold.models.classifier import build_classifier
from maskfold.models.device import configure_process, pick_device, pick_precisions
from maskfold.training.accelerators import free_memory, make_accelerator
from maskfold.training.accum_steps import resolve_accum_steps
from maskfold.training.engine import EpochSums, Update, dropout_seed, training_step
from maskfold.training.fold_data import FoldData, TrainingPhotos
from maskfold.training.train_state import make_train_state, set_frozen

# Updates before a speed is measured, in which cudnn chooses its algorithms.
WARM_UP = 5


class TrainingSetup:
    """A part in training. Photos are repeated until an epoch has `updates` whole batches."""

    def __init__(self, context: Context, config: Config, updates: int | None = None):
        self.device = pick_device(config.run)
        configure_process(self.device)
        precision, predict_precision = pick_precisions(config.run, self.device)
        resolved = replaced(config, run={"precision": precision, "predict_precision": predict_precision})
        self.config = resolve_accum_steps(resolved, self.device)
        # The peak does not count the memory that was needed to find accum_steps.
        context.reset_peak()
        self.accelerator = make_accelerator(self.config)
        torch.manual_seed(config.seed)
        self.classifier = build_classifier(self.config).to(self.device)
        prepared = context.prepared()
        images, self.batch_size = prepared.images, config.optim.batch_size
        rows = np.resize(np.arange(len(images)), (updates or context.updates) * self.batch_size)
        labels, ages = images.label.to_numpy(), images.age.to_numpy()
        store = open_store(prepared, images, config.data)
        photos = TrainingPhotos((store,), labels, ages, np.ones(len(images)), rows, rows)
        self.data = FoldData(self.config, photos, self.classifier, self.accelerator)
        self.state = make_train_state(self.config, self.classifier, photos, self.accelerator)
        # Of the last epoch, because the first ones may train only the head.
        set_frozen(config.optim.epochs, self.config, self.classifier, self.state)
        self.epoch = 1

    def batches(self, count: int) -> Iterable[Batch]:
        """`count` batches of the training loader, of a new epoch in each call."""
        self.epoch += 1
        sampler = self.data.train_loader.batch_sampler
        sampler.set_epoch(self.epoch, len(sampler) - count)
        return self.data.train_loader

    def random_batch(self) -> Batch:
        """A batch on the device like those of the loader, with random pixels."""
        [batch] = self.batches(1)
        images, labels, rows = (tensor.to(self.device) for tensor in batch)
        if not images.is_floating_point():
            images = torch.randint_like(images, 0, 256)
        return Batch(images, labels, rows)

    def train(self, batches: Iterable[Batch]) -> int:
        """Make an update with each batch, as an epoch of fold_trainer.py does; return the number of photos."""
        sums, num_photos = EpochSums.zeros(self.device), 0
        self.state.wrapped_model.train()
        for step, batch in enumerate(batches):
            seed = dropout_seed(self.config.seed, self.epoch, step, 0)
            training_step(self.state, batch, Update(self.epoch, step, self.batch_size, seed), sums)
            num_photos += self.batch_size
        # Reading the sums waits for the device.
        sums.means(self.accelerator, num_photos)
        return num_photos

    def plain_steps(self, batch: Batch, count: int) -> int:
        """Make `count` updates of a minimal training loop on one batch; return the number of photos."""
        self.classifier.train()
        for _ in range(count):
            with self.accelerator.autocast():
                loss = torch.nn.functional.nll_loss(self.classifier(batch.images), batch.labels)
            self.accelerator.backward(loss)
            self.state.optimizer.step()
            self.state.optimizer.zero_grad(set_to_none=True)
        loss.item()
        return count * self.batch_size

    def updates_in(self, seconds: float, batch: Batch) -> int:
        """The number of updates with this batch that takes about this long, at most an epoch."""
        self.train([batch] * WARM_UP)
        start = time.perf_counter()
        self.train([batch] * WARM_UP)
        per_update = (time.perf_counter() - start) / WARM_UP
        return min(max(WARM_UP, round(seconds / per_update)), len(self.data.train_loader.batch_sampler))

    def close(self) -> None:
        """End the loaders' processes and drop everything on the device."""
        self.data.close()
        accelerator, compiled = self.accelerator, self.config.run.compile
        del self.data, self.state, self.classifier, self.accelerator
        free_memory(accelerator, compiled)
