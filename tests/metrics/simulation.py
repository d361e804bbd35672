"""Simulated predictions with a known score, to test the intervals on."""

import numpy as np

from maskfold.labels import GENDERS, KIND_MASK, PHOTOS_PER_PERSON, encode_label
from maskfold.metrics.scores import METRICS, macro_f1, scores
from maskfold.synthetic.demo_data import NUM_REAL_PEOPLE

# Mean error rates; the age's by age group. CONCENTRATION is a + b of the beta distribution of a person's error rate.
AGE_ERROR, GENDER_ERROR, MASK_ERROR, CONCENTRATION = (0.08, 0.15, 0.45), 0.05, 0.02, 0.6
MASKS = np.array(list(KIND_MASK.values()))


def strata_sizes(n: int) -> list[int]:
    """The number of people by gender x age stratum among `n` people, as in the real data."""
    share = np.array(list(NUM_REAL_PEOPLE.values())) / sum(NUM_REAL_PEOPLE.values()) * n
    sizes = np.floor(share).astype(int)
    sizes[np.argsort(sizes - share)[: n - sizes.sum()]] += 1
    return sizes.tolist()


def simulate(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, predicted labels, people), each [7 n]; the errors on a person's photos are correlated, as in real data."""
    gender, age = (
        np.repeat(values, strata_sizes(n))
        for values in ([GENDERS.index(g) for g, _ in NUM_REAL_PEOPLE], [group for _, group in NUM_REAL_PEOPLE])
    )

    def wrong(mean: np.ndarray) -> np.ndarray:
        person = rng.beta(mean * CONCENTRATION, (1 - mean) * CONCENTRATION)
        return rng.random((n, PHOTOS_PER_PERSON)) < person[:, None]

    pred_gender = np.where(wrong(np.full(n, GENDER_ERROR)), 1 - gender[:, None], gender[:, None])
    # The middle age group is confused with either neighbour, the others with the middle one.
    neighbour = np.where(age == 1, rng.choice([0, 2], n, p=[0.8, 0.2]), 1)
    pred_age = np.where(wrong(np.array(AGE_ERROR)[age]), neighbour[:, None], age[:, None])
    pred_mask = np.where(
        rng.random((n, PHOTOS_PER_PERSON)) < MASK_ERROR, rng.integers(0, 3, (n, PHOTOS_PER_PERSON)), MASKS
    )
    labels = encode_label(MASKS[None, :], gender[:, None], age[:, None])
    people = np.repeat(np.arange(n), PHOTOS_PER_PERSON)
    return labels.ravel(), encode_label(pred_mask, pred_gender, pred_age).ravel(), people


def true_score(people: int = 600, rounds: int = 400, seed: int = 1) -> float:
    """The population score: macro F1 over a very large number of people."""
    rng = np.random.default_rng(seed)
    samples = [simulate(people, rng) for _ in range(rounds)]
    return macro_f1(np.concatenate([s[0] for s in samples]), np.concatenate([s[1] for s in samples]))


def coverage(interval_of, rounds: int = 300, people: int = 600, seed: int = 0) -> dict[str, float]:
    """Coverage: the share of simulations whose interval contains the true score (ci), or that of 200 new people (board)."""
    truth, results = true_score(people), []
    for n in range(rounds):
        rng = np.random.default_rng([seed, n])
        labels, pred_labels, who = simulate(people, rng)
        new = macro_f1(*simulate(200, rng)[:2])
        bounds = interval_of(labels, pred_labels, who)
        ci, board = bounds["macro_f1_ci95"], bounds["board95"]
        results.append((ci[0] <= truth <= ci[1], board[0] <= new <= board[1], ci[1] - ci[0]))
    ci, board, width = np.mean(results, axis=0)
    return {"ci": float(ci), "board": float(board), "width": float(width), "truth": truth}


def metric_coverage(interval_of, rounds: int = 300, people: int = 600, seed: int = 0) -> dict[str, float]:
    """Coverage by metric: the share of simulations whose <metric>_ci95 contains the population's metric."""
    rng = np.random.default_rng(1)
    samples = [simulate(people, rng) for _ in range(400)]
    truth = scores(np.concatenate([s[0] for s in samples]), np.concatenate([s[1] for s in samples]))
    contained = []
    for n in range(rounds):
        bounds = interval_of(*simulate(people, np.random.default_rng([seed, n])))
        contained.append([bounds[f"{name}_ci95"][0] <= truth[name] <= bounds[f"{name}_ci95"][1] for name in METRICS])
    return dict(zip(METRICS, np.mean(contained, axis=0).tolist(), strict=True))


def simulate_pair(n: int, rng: np.random.Generator, worse: float, resampled: float = 0.1) -> tuple[np.ndarray, ...]:
    """(labels, predicted labels, second predicted labels, people) of two models with the same errors on most people.

    For a share `resampled` of the people the second model's predictions are simulated again; for a share `worse` its
    age group is wrong, which is the true difference.
    """
    labels, first, people = simulate(n, rng)
    again = simulate(n, rng)[1]
    is_resampled = rng.random(n) < resampled
    second = np.where(is_resampled[people], again, first)
    is_worse = rng.random(n) < worse
    mask, gender, age = second // 6, second // 3 % 2, second % 3
    return labels, first, np.where(is_worse[people], encode_label(mask, gender, (age + 1) % 3), second), people


def true_difference(worse: float, people: int = 2700, rounds: int = 60) -> float:
    """First - second in macro F1 over a very large number of people."""
    rng = np.random.default_rng(7)
    samples = [simulate_pair(people, rng, worse) for _ in range(rounds)]
    labels, first, second = (np.concatenate([s[index] for s in samples]) for index in range(3))
    return macro_f1(labels, first) - macro_f1(labels, second)
