"""What is trained: the whole classifier or its head, with optimiser, loss and moving average; frozen and thawed."""

import numpy as np
import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch.nn.parallel import DistributedDataParallel

from maskfold.config.experiment import Config
from maskfold.labels import NUM_CLASSES
from maskfold.loading.mixing import Mixer
from maskfold.models.classifier import Classifier
from maskfold.models.losses import BatchLoss
from maskfold.models.targets import Truth
from maskfold.training.engine import Trainee
from maskfold.training.fold_data import Photos, caches_features
from maskfold.training.fold_job import Part
from maskfold.training.optim import make_optimizer


def make_trainee(
    config: Config, classifier: Classifier, photos: Photos, part: Part, accelerator: Accelerator
) -> Trainee:
    """On cached features the head alone is trained and averaged."""
    counts = np.bincount(photos.labels[part.train_rows], minlength=NUM_CLASSES)
    model, optim = classifier.head if caches_features(config) else classifier, config.optim
    return Trainee(
        accelerator=accelerator,
        model=model,
        stepped=model,
        # Of all parameters from the start: the optimiser passes over frozen ones, which have no gradient.
        optimizer=accelerator.prepare_optimizer(make_optimizer(classifier, optim)),
        loss=BatchLoss(config.loss, counts, accelerator.device),
        truth=Truth(config, photos.ages, photos.weights, accelerator.device),
        mixer=Mixer(config.mix, config.seed, accelerator.process_index, accelerator.num_processes),
        ema=ModelEmaV3(model, decay=optim.ema_decay) if optim.ema_decay else None,
        accum_steps=optim.accum_steps,
        clip_norm=optim.clip_norm,
    )


def freeze_for(epoch: int, config: Config, classifier: Classifier, trainee: Trainee) -> None:
    """Freeze the backbone or let it go, as the 1-based epoch wants; what is stepped is then wrapped anew."""
    epochs = config.model.frozen_epochs
    frozen = epochs == "all" or epoch <= epochs
    if trainee.wrapped and frozen == classifier.frozen:
        return
    classifier.freeze_backbone(frozen)
    stepped = trainee.model
    if trainee.accelerator.num_processes > 1:
        stepped = DistributedDataParallel(stepped)
    trainee.stepped, trainee.wrapped = torch.compile(stepped) if config.run.compile else stepped, True


def weights_of(classifier: Classifier, trainee: Trainee) -> dict[str, torch.Tensor]:
    """The classifier's tensors, the moving average's where it is on."""
    tensors = classifier.state_dict()
    if trainee.ema is not None:
        prefix = "head." if trainee.model is classifier.head else ""
        tensors |= {prefix + name: tensor for name, tensor in trainee.ema.module.state_dict().items()}
    return tensors
