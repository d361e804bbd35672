"""Simulated people and members of an ensemble, for the tests of blends and of their tables."""

import numpy as np

# Photos by gender x age stratum in the competition.
COUNTS = np.array([274, 205, 41, 366, 408, 54])


def simulate_people(n, rng):
    """(labels, people) of seven photos of each of n people."""
    kinds = np.array([0, 0, 0, 0, 0, 1, 2])
    strata = rng.choice(6, n, p=COUNTS / COUNTS.sum())
    labels = (kinds[None] * 6 + strata[:, None]).ravel()
    return labels, np.repeat([f"p{i:05d}" for i in range(n)], 7)


def simulate_probs(labels, rng, skill, noise=1.0):
    """Roughly calibrated probabilities [N, 18]; the higher `skill`, the more often the label has the largest."""
    logits = rng.normal(0, noise, (len(labels), 18))
    logits[np.arange(len(labels)), labels] += skill
    return softmax(logits)


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)
