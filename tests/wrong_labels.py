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


def people_at_strength(n=200, strength=2.0, overconfidence=1.0, seed=0):
    """Out-of-fold predictions of n people with correct labels, by models of any strength.

    strength: distance between classes in standard deviations of the models' scores; below 1 the models know little, from
    4 on nearly everything. overconfidence: factor on the logits; with 1 the probabilities of a photo are calibrated.
    """
    rng = np.random.default_rng(seed)
    gender, age = rng.integers(2, size=n), rng.choice(3, n, p=[0.5, 0.4, 0.1])
    mask = np.tile([KIND_MASK[kind] for kind in KINDS], n)
    scores = strength * np.eye(3)[mask] + rng.normal(size=(len(mask), 3))
    mask_logits = np.log(np.bincount(mask) / len(mask)) + strength * scores
    # Most of what is misleading about a person's gender is in all photos of the person.
    own = np.where(gender, 1, -1) * strength / 2 + rng.normal(0, np.sqrt(0.7), n)
    female = strength * (np.repeat(own, len(KINDS)) + rng.normal(0, np.sqrt(0.3), len(mask)))
    gender_logits = np.stack([-female / 2, female / 2], 1)
    age_logits = np.log([0.15, 0.7])[np.eye(3, dtype=int)[np.repeat(age, len(KINDS))]]
    logits = mask_logits[:, :, None, None] + gender_logits[:, None, :, None] + age_logits[:, None, None, :]
    logits = overconfidence * logits.reshape(len(mask), -1)
    probs = np.exp(logits - logits.max(1, keepdims=True))
    person_id = np.repeat(names(range(n)), len(KINDS))
    return Predictions(
        np.array([f"{person}/{kind}" for person, kind in zip(person_id, KINDS * n, strict=True)]),
        (probs / probs.sum(1, keepdims=True)).astype(np.float32),
        encode_label(mask, np.repeat(gender, len(KINDS)), np.repeat(age, len(KINDS))),
        np.repeat(np.arange(n) % 3, len(KINDS)),
        person_id,
    )
