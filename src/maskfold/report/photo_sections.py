"""The sections of the report that show photos: augmentation, mixing, and the most confident errors."""

from html import escape

import numpy as np

from maskfold.config.experiment import Config, replaced
from maskfold.data.folds import split
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.loading.store import Store
from maskfold.loading.transforms import make_train_transform, sample_seeds
from maskfold.metrics.confusion import most_confident_errors
from maskfold.pages.html_page import note, photo
from maskfold.probabilities import OutOfFold

# Number of photos whose augmentations are shown, and maximum number of epochs for each photo.
NUM_PHOTOS, MAX_EPOCHS = 6, 5
# Maximum number of mixed photos that are shown, in two rows.
MAX_MIXED = 12


def augmentation_examples(config: Config, store: Store) -> np.ndarray:
    """An image of some photos, augmented as in the first epochs, at the model's input size: uint8 RGB [H, W, 3]."""
    rows, transform = np.linspace(0, len(store) - 1, NUM_PHOTOS).astype(int), make_train_transform(config.data)
    lines, epochs = [], min(MAX_EPOCHS, config.optim.epochs)
    for row in rows:
        seeds = [
            sample_seeds(config.seed, epoch, np.array([row]), np.zeros(1, int))[0] for epoch in range(1, epochs + 1)
        ]
        lines.append(np.concatenate([transform(store[row], seed) for seed in seeds], 1))
    half = NUM_PHOTOS // 2
    return np.concatenate([np.concatenate(lines[:half], 0), np.concatenate(lines[half:], 0)], 1)


def mixing_examples(config: Config, prepared: Prepared, store: Store, fold: int = 0) -> np.ndarray:
    """An image of the first mixed batch of a fold, augmented and mixed as in training: uint8 RGB [H, W, 3].

    Pseudo-labelled photos are left out. Raises UserError if the fold has no photos that mix.partner allows as partners.
    """
    # Imported here, since a report without mixing does not need torch.
    import torch

    from maskfold.loading.dataset import PhotoDataset
    from maskfold.loading.mixing import Mixer
    from maskfold.loading.sampler import train_batch_sampler
    from maskfold.models.targets import TargetEncoder

    table = prepared.images
    labels, ages = table.label.to_numpy(), table.age.to_numpy()
    batches = train_batch_sampler(config, split(table, prepared.folds, fold)[0], labels)
    dataset = PhotoDataset(store, labels, make_train_transform(config.data), config.seed)
    target_encoder, mixer = TargetEncoder(config, ages, np.ones(len(ages)), "cpu"), Mixer(config.mix, config.seed)
    while True:
        batches.set_epoch(batches.epoch + 1)
        for batch, keys in enumerate(batches):
            size = batches.size(batch)
            if len(keys) > size:
                images, batch_labels, rows = dataset.__getitems__(keys)
                mixed, _ = mixer(images, target_encoder(batch_labels, rows), batches.epoch, batch, size)
                pixels = mixed[:MAX_MIXED].permute(0, 2, 3, 1).to(torch.uint8).numpy()
                # Two rows of equal length, or one row for a single photo.
                lines = np.array_split(pixels[: len(pixels) // 2 * 2], 2) if len(pixels) > 1 else [pixels]
                return np.concatenate([np.concatenate(list(line), 1) for line in lines], 0)


def confident_errors_section(oof: OutOfFold, prepared: Prepared, store: Store) -> str:
    """HTML: the incorrect predictions with the highest probability."""
    store_rows = prepared.row_indices(oof.image_id)
    cells = [
        f"<figure>{photo(store[store_rows[row]], name)}<figcaption><code>{escape(name)}</code><br>true {escape(true)}"
        f"<br>predicted {escape(predicted)} ({probability:.2f})</figcaption></figure>"
        for row, name, true, predicted, probability in most_confident_errors(oof)
    ]
    return f"<div class='row'>{''.join(cells)}</div>" if cells else note("There are no incorrect predictions.")


def augmentation_section(config: Config, prepared: Prepared, store: Store, fold: int) -> str:
    """HTML: augmented photos and, with mixup or CutMix, mixed photos of a fold."""
    if config.uses_cached_features:
        plain = replaced(config, data={"augment": "none"}, optim={"epochs": 1})
        if config.data.augment == "none":
            photos = "original photos; there is no augmentation"
        else:
            photos = "original and the flipped photos; there is no other augmentation"
        text = f"The features are computed once by the frozen backbone, for the {photos}."
        return note(text) + _photos(augmentation_examples(plain, store), "photos without augmentation")
    augment = config.data.augment if isinstance(config.data.augment, str) else "a list of transforms"
    epochs = min(MAX_EPOCHS, config.optim.epochs)
    text = f"Training photos in the first {epochs} epochs (data.augment: {augment}), at the input size of the model."
    html = note(text) + _photos(augmentation_examples(config, store), "augmented photos")
    if config.mix.name != "none":
        try:
            pixels = mixing_examples(config, prepared, store, fold)
        except UserError as error:
            return html + note(f"No mixed batch can be shown: {error}")
        html += note(f"Photos of the first mixed batch of fold {fold} (mix.name: {config.mix.name}).")
        html += _photos(pixels, "mixed photos")
    return html


def _photos(pixels: np.ndarray, alt: str) -> str:
    """HTML: an image of several photos, in a container with the same space below it as below a figure."""
    return f"<div class='scroll'>{photo(pixels, alt)}</div>"
