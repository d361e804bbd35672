"""Simulated predictions of people, and labels with planted errors."""

from dataclasses import replace

import numpy as np

from maskfold.labels import KIND_MASK, decode_label, encode_label
from maskfold.probabilities import Predictions

KINDS = list(KIND_MASK)


def people(n=300, doubt=1.0, seed=0):
    """Out-of-fold predictions of n people by models that are calibrated, except for an error shared by a person's photos."""
    rng = np.random.default_rng(seed)
    gender, age = rng.integers(2, size=n), rng.choice(3, n, p=[0.5, 0.4, 0.1])
    # The models' logit of a person's gender; the label is sampled from it.
    gender_logit = np.where(gender, 1, -1) * 4 / doubt + rng.normal(0, 2, n)
    gender = (rng.random(n) < 1 / (1 + np.exp(-gender_logit))).astype(int)
    probs, labels, ids = [], [], []
    for person in range(n):
        for kind in KINDS:
            # The probability of the other masks varies between photos from a thousandth to a tenth.
            mask = np.full(3, 10 ** rng.uniform(-3, -1) / 2)
            mask[KIND_MASK[kind]] = 1 - mask[:2].sum()
            p = 1 / (1 + np.exp(-(gender_logit[person] + rng.normal(0, 0.3))))
            ages = np.full(3, 0.15)
            ages[age[person]] = 0.7
            probs.append((mask[:, None, None] * np.array([1 - p, p])[:, None] * ages).ravel())
            labels.append(encode_label(KIND_MASK[kind], gender[person], age[person]))
            ids.append(f"{person:03d}/{kind}")
    person_id = np.repeat([f"{person:03d}" for person in range(n)], len(KINDS))
    return Predictions(
        np.array(ids), np.array(probs, np.float32), np.array(labels), np.repeat(np.arange(n) % 3, 7), person_id
    )


def turned(oof, genders=(), swaps=()):
    """The same predictions with wrong labels: genders flipped, incorrect_mask and normal exchanged."""
    mask, gender, age = decode_label(oof.label)
    gender = np.where(np.isin(oof.person_id, genders), 1 - gender, gender)
    mask = np.where(np.isin(oof.person_id, swaps) & (mask > 0), 3 - mask, mask)
    return replace(oof, label=encode_label(mask, gender, age))


def names(numbers):
    return [f"{number:03d}" for number in numbers]
