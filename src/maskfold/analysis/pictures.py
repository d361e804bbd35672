"""Photos to look at: what the model saw, and where it looked. uint8 RGB, or pieces of a report's page."""

from dataclasses import dataclass
from html import escape

import numpy as np

from maskfold.analysis.mistakes import surest, worst_mistakes
from maskfold.analysis.page import note, photo
from maskfold.config import Config, replaced
from maskfold.data.folds import split
from maskfold.data.prepared import Prepared
from maskfold.data.store import Store
from maskfold.data.transforms import sample_seeds, train_transform
from maskfold.errors import UserError
from maskfold.labels import CLASS_NAMES
from maskfold.predictions import Predictions
from maskfold.training.runs import RunFolder

# Photos whose augmentations are shown, and how many of each.
SAMPLES, VARIANTS = 6, 5
# Mixed photos that are shown, in two lines.
MIXED = 12
# Wrong answers that are explained, each beside a right one.
PAIRS = 6
# How much is left of what an answer does not rest on, in shares of its brightness.
DARKEST = 0.2


def augmented(config: Config, store: Store) -> np.ndarray:
    """Some photos as the first epochs augment them, at the size the model sees: [H, W, 3]."""
    rows, transform = np.linspace(0, len(store) - 1, SAMPLES).astype(int), train_transform(config.data)
    lines, epochs = [], min(VARIANTS, config.optim.epochs)
    for row in rows:
        seeds = [sample_seeds(config.seed, epoch, [row], [0])[0] for epoch in range(1, epochs + 1)]
        lines.append(np.concatenate([transform(store[row], seed) for seed in seeds], 1))
    half = SAMPLES // 2
    return np.concatenate([np.concatenate(lines[:half], 0), np.concatenate(lines[half:], 0)], 1)


def mixed(config: Config, prepared: Prepared, store: Store, fold: int = 0) -> np.ndarray:
    """Photos of a fold's first mixed batch, augmented and mixed as its model saw them: [H, W, 3].

    Pseudo-labelled photos are not among them. Raises UserError where the fold's people lend no such partner.
    """
    # Here: a report without mixing does without torch.
    import torch

    from maskfold.data.dataset import PhotoDataset
    from maskfold.data.sampling import training_batches
    from maskfold.models.targets import Truth
    from maskfold.training.mixing import Mixer

    images = prepared.images
    labels, ages = images.label.to_numpy(), images.age.to_numpy()
    batches = training_batches(config, split(images, prepared.folds, fold)[0], labels)
    dataset = PhotoDataset(store, labels, train_transform(config.data), config.seed)
    truth, mixer = Truth(config, ages, np.ones(len(ages)), "cpu"), Mixer(config.mix, config.seed)
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


@dataclass(frozen=True)
class Explained:
    """A photo as the model saw it, uint8 [H, W, 3], and what its answer rests on, float [H, W] from 0 to 1."""

    image_id: str
    is_right: bool
    words: str
    seen: np.ndarray
    heat: np.ndarray

    @property
    def lit(self) -> np.ndarray:
        """The photo, darker where the answer does not rest on it: it can be read without colours."""
        return (self.seen * (DARKEST + (1 - DARKEST) * self.heat[..., None])).astype(np.uint8)


def pairs(oof: Predictions) -> list[tuple[int, int]]:
    """(wrong, right) rows: the surest wrong answers, of people of their own, and the surest right ones of their class.

    A class without a right answer lends none.
    """
    found, people = [], set()
    right = surest(oof, wrong=False)
    for row in surest(oof, wrong=True):
        person = oof.person_id[row]
        kin = [at for at in right if oof.label[at] == oof.label[row] and oof.person_id[at] not in people | {person}]
        if person not in people and kin:
            found.append((row, kin[0]))
            people |= {person, oof.person_id[kin[0]]}
        if len(found) == PAIRS:
            break
    return found


def explained(run: RunFolder, oof: Predictions, prepared: Prepared, store: Store) -> list[Explained]:
    """Wrong answers and right ones in turn, each by the model of its own fold.

    Raises ImportError without the extra `explain`, ValueError for a backbone that Grad-CAM can't look into, UserError
    where a fold's weights are gone.
    """
    from maskfold.analysis.explain import heatmaps

    rows, answers = [row for pair in pairs(oof) for row in pair], oof.answers
    place = prepared.rows_of(oof.image_id)
    maps = heatmaps(run, [(int(oof.fold[row]), store[place[row]], int(answers[row])) for row in rows])
    found = []
    for row, (seen, heat) in zip(rows, maps, strict=True):
        is_right, said = bool(answers[row] == oof.label[row]), CLASS_NAMES[answers[row]]
        words = f"{'right' if is_right else 'wrong'}: {said} ({oof.probs[row].max():.2f})"
        words += "" if is_right else f", is {CLASS_NAMES[oof.label[row]]}"
        found.append(Explained(str(oof.image_id[row]), is_right, words, seen, heat))
    return found


def gallery(oof: Predictions, prepared: Prepared, store: Store) -> str:
    """The surest wrong answers, as HTML."""
    place = prepared.rows_of(oof.image_id)
    shown = [
        f"<figure>{photo(store[place[row]], name)}<figcaption><code>{escape(name)}</code><br>is {escape(true)}<br>"
        f"taken for {escape(said)} ({p:.2f})</figcaption></figure>"
        for row, name, true, said, p in worst_mistakes(oof)
    ]
    return f"<div class='row'>{''.join(shown)}</div>" if shown else "<p>There are none.</p>"


def seen_by_the_model(config: Config, prepared: Prepared, store: Store, fold: int) -> str:
    """Augmented and, where the run mixes, mixed photos of a fold, as HTML."""
    from maskfold.training.feed import caches_features

    if caches_features(config):
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


def where_it_looked(run: RunFolder, oof: Predictions, prepared: Prepared, store: Store) -> str:
    """Grad-CAM of wrong answers beside right ones of their class, as HTML; in a sentence why not, where it can't be."""
    try:
        shown = explained(run, oof, prepared, store)
    except ImportError:
        return note(
            "Grad-CAM is not installed; this does: pip install 'maskfold[explain]' (in a checkout: '.[explain]')"
        )
    except ValueError as fault:
        return note(f"Grad-CAM can't look into {run.config.model.backbone}: {fault}")
    except UserError as fault:
        return note(f"Grad-CAM has no model to look into: {fault}")
    if not shown:
        return note("There is no wrong answer whose class has a right one too.")
    cells = [
        f"<figure class='pair'>{photo(each.seen, each.image_id)}{photo(each.lit, f'{each.image_id}, Grad-CAM')}"
        f"<figcaption><code>{escape(each.image_id)}</code><br>{escape(each.words)}</figcaption></figure>"
        for each in shown
    ]
    said = (
        "On the left of each pair the surest wrong answers, on its right a right one of the same class: the photo as "
    )
    said += "the model of its own fold saw it, and the same, dark where the answer does not rest on it (Grad-CAM)."
    return note(said) + f"<div class='row'>{''.join(cells)}</div>"
