"""Predictions of simulated people with a known score: what the intervals are tried on."""

import numpy as np

from maskfold.labels import GENDERS, KIND_MASK, PHOTOS_PER_PERSON, encode
from maskfold.metrics.scores import METRICS, macro_f1, scores
from maskfold.synthetic.demo_data import NUM_REAL_PEOPLE

# Mean share of a person's photos whose age group is told wrong, by age group, and how unlike people are (Beta's a + b).
AGE_ERROR, GENDER_ERROR, MASK_ERROR, LIKENESS = (0.08, 0.15, 0.45), 0.05, 0.02, 0.6
MASKS = np.array(list(KIND_MASK.values()))


def strata_sizes(n: int) -> list[int]:
    """`n` people in the real gender x age mix."""
    share = np.array(list(NUM_REAL_PEOPLE.values())) / sum(NUM_REAL_PEOPLE.values()) * n
    sizes = np.floor(share).astype(int)
    sizes[np.argsort(sizes - share)[: n - sizes.sum()]] += 1
    return sizes.tolist()


def simulate(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, answers, people), each [7 n]: a person's photos err together, as real ones do."""
    gender, age = (
        np.repeat(values, strata_sizes(n))
        for values in ([GENDERS.index(g) for g, _ in NUM_REAL_PEOPLE], [group for _, group in NUM_REAL_PEOPLE])
    )

    def wrong(mean: np.ndarray) -> np.ndarray:
        person = rng.beta(mean * LIKENESS, (1 - mean) * LIKENESS)
        return rng.random((n, PHOTOS_PER_PERSON)) < person[:, None]

    said_gender = np.where(wrong(np.full(n, GENDER_ERROR)), 1 - gender[:, None], gender[:, None])
    # The middle group is taken for either neighbour, the others for the middle one.
    neighbour = np.where(age == 1, rng.choice([0, 2], n, p=[0.8, 0.2]), 1)
    said_age = np.where(wrong(np.array(AGE_ERROR)[age]), neighbour[:, None], age[:, None])
    said_mask = np.where(
        rng.random((n, PHOTOS_PER_PERSON)) < MASK_ERROR, rng.integers(0, 3, (n, PHOTOS_PER_PERSON)), MASKS
    )
    labels = encode(MASKS[None, :], gender[:, None], age[:, None])
    people = np.repeat(np.arange(n), PHOTOS_PER_PERSON)
    return labels.ravel(), encode(said_mask, said_gender, said_age).ravel(), people


def true_score(people: int = 600, rounds: int = 400, seed: int = 1) -> float:
    """The score of a set without end: macro F1 over very many people in the same mix."""
    rng = np.random.default_rng(seed)
    drawn = [simulate(people, rng) for _ in range(rounds)]
    return macro_f1(np.concatenate([d[0] for d in drawn]), np.concatenate([d[1] for d in drawn]))


def coverage(interval_of, rounds: int = 300, people: int = 600, seed: int = 0) -> dict[str, float]:
    """Share of simulations whose interval holds the true score (ci) and a new set of 200 people's (board)."""
    truth, held = true_score(people), []
    for n in range(rounds):
        rng = np.random.default_rng([seed, n])
        labels, answers, who = simulate(people, rng)
        new = macro_f1(*simulate(200, rng)[:2])
        found = interval_of(labels, answers, who)
        ci, board = found["macro_f1_ci95"], found["board95"]
        held.append((ci[0] <= truth <= ci[1], board[0] <= new <= board[1], ci[1] - ci[0]))
    ci, board, width = np.mean(held, axis=0)
    return {"ci": float(ci), "board": float(board), "width": float(width), "truth": truth}


def metric_coverage(interval_of, rounds: int = 300, people: int = 600, seed: int = 0) -> dict[str, float]:
    """Share of simulations whose <metric>_ci95 holds the metric of a set without end, by metric."""
    rng = np.random.default_rng(1)
    drawn = [simulate(people, rng) for _ in range(400)]
    truth = scores(np.concatenate([d[0] for d in drawn]), np.concatenate([d[1] for d in drawn]))
    held = []
    for n in range(rounds):
        found = interval_of(*simulate(people, np.random.default_rng([seed, n])))
        held.append([found[f"{name}_ci95"][0] <= truth[name] <= found[f"{name}_ci95"][1] for name in METRICS])
    return dict(zip(METRICS, np.mean(held, axis=0).tolist(), strict=True))


def simulate_pair(n: int, rng: np.random.Generator, spoiled: float, redrawn: float = 0.1) -> tuple[np.ndarray, ...]:
    """(labels, answers, other answers, people): two models that err alike on most people.

    The other one's answers are those of another draw for `redrawn` of the people; of `spoiled` of them it tells the age
    group wrong: a planted difference.
    """
    labels, first, people = simulate(n, rng)
    again = simulate(n, rng)[1]
    lucky = rng.random(n) < redrawn
    second = np.where(lucky[people], again, first)
    worse = rng.random(n) < spoiled
    mask, gender, age = second // 6, second // 3 % 2, second % 3
    return labels, first, np.where(worse[people], encode(mask, gender, (age + 1) % 3), second), people


def planted_difference(spoiled: float, people: int = 2700, rounds: int = 60) -> float:
    """First - second in macro F1 over very many people."""
    rng = np.random.default_rng(7)
    drawn = [simulate_pair(people, rng, spoiled) for _ in range(rounds)]
    labels, first, second = (np.concatenate([d[at] for d in drawn]) for at in range(3))
    return macro_f1(labels, first) - macro_f1(labels, second)
