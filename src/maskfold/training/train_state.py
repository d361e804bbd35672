"""The training state of one part (a fold or the refit): the model or head, optimiser, loss, EMA and frozen backbone."""

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel

from maskfold.config.experiment import Config
from maskfold.labels import NUM_CLASSES
from maskfold.loading.mixing import Mixer
from maskfold.models.classifier import Classifier
from maskfold.models.ema import ModelEma
from maskfold.models.losses import BatchLoss
from maskfold.models.targets import TargetEncoder
from maskfold.models.timm_library import prepare_compiler
from maskfold.training.fold_data import TrainingPhotos
from maskfold.training.optim import make_optimizer


@dataclass
class TrainState:
    """What a training step reads and updates.

    model: the module whose parameters are optimised and saved. wrapped_model: `model`, wrapped in
    DistributedDataParallel if there are several processes, and compiled if run.compile is set; the training step calls
    it. is_wrapped: False until set_frozen() has set wrapped_model.
    """

    accelerator: Accelerator
    model: torch.nn.Module
    wrapped_model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: BatchLoss
    target_encoder: TargetEncoder
    mixer: Mixer
    ema: ModelEma | None = None
    accum_steps: int = 1
    clip_norm: float = 0.0
    is_wrapped: bool = False


def make_train_state(
    config: Config, classifier: Classifier, photos: TrainingPhotos, accelerator: Accelerator
) -> TrainState:
    """Build the TrainState. With cached features, `model` and `ema` contain only the head.

    optim.accum_steps must be resolved (not auto).
    """
    counts = np.bincount(photos.labels[photos.train_rows], minlength=NUM_CLASSES)
    model, optim = classifier.head if config.uses_cached_features else classifier, config.optim
    assert optim.accum_steps != "auto"
    return TrainState(
        accelerator=accelerator,
        model=model,
        wrapped_model=model,
        # The optimiser also has the frozen parameters. It skips them, because they have no gradient.
        optimizer=accelerator.prepare_optimizer(make_optimizer(classifier, optim)),
        loss_fn=BatchLoss(config.loss, counts, accelerator.device),
        target_encoder=TargetEncoder(config, photos.ages, photos.weights, accelerator.device),
        mixer=Mixer(config.mix, config.seed, accelerator.process_index, accelerator.num_processes),
        ema=ModelEma(model, optim.ema_decay) if optim.ema_decay else None,
        accum_steps=optim.accum_steps,
        clip_norm=optim.clip_norm,
    )


def set_frozen(epoch: int, config: Config, classifier: Classifier, state: TrainState) -> None:
    """Freeze or unfreeze the backbone for a 1-based epoch. At the first call and after each change, wrap the model."""
    epochs = config.model.frozen_epochs
    frozen = epochs == "all" or epoch <= epochs
    if state.is_wrapped and frozen == classifier.frozen:
        return
    classifier.freeze_backbone(frozen)
    wrapped_model = state.model
    if state.accelerator.num_processes > 1:
        wrapped_model = DistributedDataParallel(wrapped_model)
    if config.run.compile:
        prepare_compiler()
        wrapped_model = torch.compile(wrapped_model)
    state.wrapped_model, state.is_wrapped = wrapped_model, True


def current_weights(classifier: Classifier, state: TrainState) -> dict[str, torch.Tensor]:
    """Return the classifier's state dict; if there is an EMA, its tensors replace those of the model."""
    tensors = classifier.state_dict()
    if state.ema is not None:
        prefix = "head." if state.model is classifier.head else ""
        tensors |= {prefix + name: tensor for name, tensor in state.ema.module.state_dict().items()}
    return tensors
