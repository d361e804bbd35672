"""Photos to look at: what the model saw, and where it looked. uint8 RGB, or pieces of a report's page."""

from html import escape

import numpy as np

from maskfold.config.experiment import Config, replaced
from maskfold.data.folds import split
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.loading.store import Store
from maskfold.loading.transforms import sample_seeds, train_transform
from maskfold.metrics.confusion import most_confident_errors
from maskfold.pages.html_page import note, photo
from maskfold.probabilities import OutOfFold

# Photos whose augmentations are shown, and how many of each.
SAMPLES, VARIANTS = 6, 5
# Mixed photos that are shown, in two lines.
MIXED = 12


def augmented(config: Config, store: Store) -> np.ndarray:
    """Some photos as the first epochs augment them, at the size the model sees: [H, W, 3]."""
    rows, transform = np.linspace(0, len(store) - 1, SAMPLES).astype(int), train_transform(config.data)
    lines, epochs = [], min(VARIANTS, config.optim.epochs)
    for row in rows:
        seeds = [
            sample_seeds(config.seed, epoch, np.array([row]), np.zeros(1, int))[0] for epoch in range(1, epochs + 1)
        ]
        lines.append(np.concatenate([transform(store[row], seed) for seed in seeds], 1))
    half = SAMPLES // 2
    return np.concatenate([np.concatenate(lines[:half], 0), np.concatenate(lines[half:], 0)], 1)


def mixed(config: Config, prepared: Prepared, store: Store, fold: int = 0) -> np.ndarray:
    """Photos of a fold's first mixed batch, augmented and mixed as its model saw them: [H, W, 3].

    Pseudo-labelled photos are not among them. Raises UserError where the fold's people lend no such partner.
    """
    # Here: a report without mixing does without torch.
    import torch

    from maskfold.loading.dataset import PhotoDataset
    from maskfold.loading.mixing import Mixer
    from maskfold.loading.sampler import train_batch_sampler
    from maskfold.models.targets import TargetEncoder

    images = prepared.images
    labels, ages = images.label.to_numpy(), images.age.to_numpy()
    batches = train_batch_sampler(config, split(images, prepared.folds, fold)[0], labels)
    dataset = PhotoDataset(store, labels, train_transform(config.data), config.seed)
    truth, mixer = TargetEncoder(config, ages, np.ones(len(ages)), "cpu"), Mixer(config.mix, config.seed)
    while True:
        batches.set_epoch(batches.epoch + 1)
        for batch, keys in enumerate(batches):
            size = batches.size(batch)
            if len(keys) > size:
                photos, known, rows = dataset.__getitems__(keys)
                seen, _ = mixer(photos, truth(known, rows), batches.epoch, batch, size)
                shown = seen[:MIXED].permute(0, 2, 3, 1).to(torch.uint8).numpy()
                # Two lines of one length, or one.
                lines = np.array_split(shown[: len(shown) // 2 * 2], 2) if len(shown) > 1 else [shown]
                return np.concatenate([np.concatenate(list(line), 1) for line in lines], 0)


def gallery(oof: OutOfFold, prepared: Prepared, store: Store) -> str:
    """The surest wrong answers, as HTML."""
    place = prepared.row_indices(oof.image_id)
    shown = [
        f"<figure>{photo(store[place[row]], name)}<figcaption><code>{escape(name)}</code><br>is {escape(true)}<br>"
        f"taken for {escape(said)} ({p:.2f})</figcaption></figure>"
        for row, name, true, said, p in most_confident_errors(oof)
    ]
    return f"<div class='row'>{''.join(shown)}</div>" if shown else "<p>There are none.</p>"


def seen_by_the_model(config: Config, prepared: Prepared, store: Store, fold: int) -> str:
    """Augmented and, where the run mixes, mixed photos of a fold, as HTML."""
    from maskfold.training.fold_data import uses_cached_features

    if uses_cached_features(config):
        plain = replaced(config, data={"augment": "none"}, optim={"epochs": 1})
        flipped = "" if config.data.augment == "none" else " and flipped"
        return note(f"Features of photos as they are{flipped}, computed once: nothing else is augmented.") + photo(
            augmented(plain, store), "photos as they are"
        )
    how = config.data.augment if isinstance(config.data.augment, str) else "its own pipeline"
    epochs = min(VARIANTS, config.optim.epochs)
    said = f"Training photos as the first {epochs} epochs augment them ({how}), at the size the model sees."
    shown = note(said) + photo(augmented(config, store), "augmented photos")
    if config.mix.name != "none":
        try:
            sheet = mixed(config, prepared, store, fold)
        except UserError as fault:
            return shown + note(f"No mixed batch can be shown: {fault}")
        shown += note(f"The first batch of fold {fold} that is mixed ({config.mix.name}):")
        shown += photo(sheet, "mixed photos")
    return shown
