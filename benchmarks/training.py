"""Speed of a training epoch with its data loader, compared with the same step on random tensors in memory."""

from pathlib import Path

import numpy as np
import torch
from measure import Result, compare_medians, rate, take_turns
from pipeline import Pipeline

from maskfold.config.experiment import Config, replaced
from maskfold.models.classifier import build_classifier
from maskfold.models.device import configure_process, pick_device, pick_precisions, pick_workers
from maskfold.training.accelerators import make_accelerator
from maskfold.training.engine import EpochSums, Update, training_step
from maskfold.training.fold_data import TrainingPhotos
from maskfold.training.train_state import make_train_state

BATCHES = 4


def measure(data: Path, scratch: Path, backbone: str, repeats: int) -> dict[str, Result]:
    ours = Pipeline(data, scratch, backbone)
    device = pick_device(ours.config.run)
    configure_process(device)
    precision, _ = pick_precisions(ours.config.run, device)
    config: Config = replaced(ours.config, run={"precision": precision})
    accelerator = make_accelerator(config)
    classifier = build_classifier(config).to(device)
    rows = np.arange(len(ours.prepared.images))
    images = ours.prepared.images
    photos = TrainingPhotos((), images.label.to_numpy(), images.age.to_numpy(), np.ones(len(rows)), rows, rows[:0])
    train_state = make_train_state(config, classifier, photos, accelerator)
    size, (height, width) = config.optim.batch_size, config.data.image_size
    loader = ours.loader((height, width), pick_workers("auto", device), num_photos=BATCHES * size)
    pixels = torch.randint(0, 256, (size, height, width, 3), dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
    labels = torch.randint(0, 18, (size,), device=device)

    def epoch() -> int:
        sums = EpochSums.zeros(device)
        classifier.train()
        for step, batch in enumerate(loader):
            training_step(train_state, batch, Update(0, step, loader.batch_sampler.size(step)), sums)
        return BATCHES * size

    def bare() -> int:
        classifier.train()
        for _ in range(BATCHES):
            with accelerator.autocast():
                loss = torch.nn.functional.nll_loss(classifier(pixels), labels)
            accelerator.backward(loss)
            train_state.optimizer.step()
            train_state.optimizer.zero_grad(set_to_none=True)
        loss.item()
        return BATCHES * size

    values = take_turns({"ours": lambda: rate(epoch), "bare": lambda: rate(bare)}, repeats)
    return compare_medians(values, {"training_vs_random_tensors": "bare"}, "images/s")
