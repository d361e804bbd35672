"""Train on one fold while the learning rate rises, and record the loss of each update (Smith 2017)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import torch
from accelerate import Accelerator

from maskfold.cache_folder import CacheFolder
from maskfold.config.experiment import Config, replaced
from maskfold.data.images_table import Prepared
from maskfold.data.prepared_folder import ensure_prepared
from maskfold.environment import check_compile_variables, check_launch, launched_processes
from maskfold.errors import UserError
from maskfold.loading.dataset import Batch
from maskfold.loading.store import Store, open_store
from maskfold.models.classifier import build_classifier
from maskfold.models.device import check_compiler, configure_process, pick_device, pick_precisions
from maskfold.models.input_size import check_input_size
from maskfold.progress import progress
from maskfold.search.lr_suggestion import WINDOW, LrCurve, has_diverged
from maskfold.training.accelerators import free_memory, make_accelerator
from maskfold.training.accum_steps import resolve_accum_steps
from maskfold.training.engine import EpochSums, Update, dropout_seed, training_step
from maskfold.training.fold_data import FoldData, TrainingPhotos
from maskfold.training.fold_job import requested_parts
from maskfold.training.fold_scores import memory_error
from maskfold.training.optim import set_lr
from maskfold.training.train_state import make_train_state, set_frozen


@dataclass(frozen=True)
class LrRange:
    """The learning rates of a range test, and the number of the fold to train on.

    The test uses `updates` learning rates from min_lr to max_lr, evenly spaced on a log scale.
    """

    min_lr: float
    max_lr: float
    updates: int
    fold: int = 0

    @property
    def lrs(self) -> np.ndarray:
        """float64 [updates]."""
        return np.geomspace(self.min_lr, self.max_lr, self.updates)


def lr_range_test(config: Config, lr_range: LrRange, cache: CacheFolder | None = None) -> LrCurve:
    """Train a new model on the training photos of a fold, with the training step of train.py; nothing is saved.

    The learning rates of the head and of the layers keep their ratio to optim.lr. optim.schedule and the warm-up are
    not used, nor are pseudo-labels. The test ends early if the loss diverges. Raises UserError for a range, fold or
    configuration that is not valid, and if the GPU's memory is too small.
    """
    _check_range(lr_range)
    check_launch()
    if config.run.compile:
        check_compile_variables()
    device = pick_device(config.run)
    configure_process(device)
    check_compiler(config.run, device)
    precision, predict_precision = pick_precisions(config.run, device)
    config = replaced(config, run={"precision": precision, "predict_precision": predict_precision})
    prepared = ensure_prepared(config.data, cache)
    if lr_range.fold not in range(prepared.num_folds):
        raise UserError(f"--fold {lr_range.fold} is not valid; there are folds 0 to {prepared.num_folds - 1}")
    config = resolve_accum_steps(config, device)
    store = open_store(prepared, prepared.images, config.data)
    accelerator = make_accelerator(config)
    try:
        return _train(config, prepared, store, lr_range, accelerator)
    except torch.OutOfMemoryError as error:
        raise memory_error(f"fold{lr_range.fold}", config, "try again") from error
    finally:
        free_memory(accelerator, config.run.compile)


def _check_range(lr_range: LrRange) -> None:
    if launched_processes() > 1:
        raise UserError("environment: find_lr.py trains in a single process; start it without torchrun")
    if not 0 < lr_range.min_lr < lr_range.max_lr < np.inf:
        raise UserError(
            f"--min-lr {lr_range.min_lr:g} with --max-lr {lr_range.max_lr:g} is not valid; use learning rates above 0, "
            "the lower one first"
        )
    if lr_range.updates < 2 * WINDOW:
        raise UserError(f"--updates {lr_range.updates} is not valid; use at least {2 * WINDOW}")


def _train(config: Config, prepared: Prepared, store: Store, lr_range: LrRange, accelerator: Accelerator) -> LrCurve:
    [part] = requested_parts(prepared, [lr_range.fold], refit=False)
    photos = TrainingPhotos.of_part(prepared, store, part)
    # The seeds are those of train.py, so the batches, augmentation and dropout are those of its first updates.
    torch.manual_seed(config.seed)
    classifier = build_classifier(config)
    check_input_size(classifier, config)
    classifier.to(accelerator.device)
    data = FoldData(config, photos, classifier, accelerator)
    state = make_train_state(config, classifier, photos, accelerator)
    # Train the layers that train.py trains in the last epoch: optim.lr is the peak learning rate of the backbone, which
    # may be frozen in the first epochs.
    set_frozen(config.optim.epochs, config, classifier, state)
    state.wrapped_model.train()
    sums, losses = EpochSums.zeros(accelerator.device), list[float]()
    batches, lrs = _batches(data, config), lr_range.lrs
    try:
        with progress(f"learning rates of {part.name}", lr_range.updates, "updates") as advance:
            for lr, (update, batch) in zip(lrs, islice(batches, len(lrs)), strict=True):
                set_lr(state.optimizer, lr / config.optim.lr)
                losses.append(float(training_step(state, batch, update, sums)))
                advance(1, f"lr {lr:.1e}, loss {losses[-1]:.3f}")
                if has_diverged(losses):
                    break
    finally:
        data.close()
    finite = np.isfinite(losses)
    return LrCurve(lrs[: len(losses)][finite], np.array(losses)[finite], has_diverged(losses))


def _batches(data: FoldData, config: Config) -> Iterator[tuple[Update, Batch]]:
    """Yield each update with its batch, for epochs 1, 2, ... without end."""
    sampler = data.train_loader.batch_sampler
    for epoch in count(1):
        sampler.set_epoch(epoch)
        for step, batch in enumerate(data.train_loader):
            yield Update(epoch, step, sampler.size(step), dropout_seed(config.seed, epoch - 1, step, 0)), batch
