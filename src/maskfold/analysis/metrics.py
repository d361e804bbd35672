"""The official metric over whole arrays, and intervals from a bootstrap over people."""

import numpy as np

from maskfold.labels import AXES, NUM_CLASSES, decode, stratum

RESAMPLES = 2000


def f1_per_class(hits: np.ndarray, truths: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Counts [..., C] of hits, true photos and answered photos a class -> F1 [..., C]; 0 where a class has neither."""
    return 2 * hits / np.maximum(truths + answers, 1)


def _counts(labels: np.ndarray, answers: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Float [3, n_groups, 18]: hits, truths and answers a class in each group of photos."""
    counts = np.zeros((3, n_groups, NUM_CLASSES))
    np.add.at(counts[1], (groups, labels), 1)
    np.add.at(counts[2], (groups, answers), 1)
    right = labels == answers
    np.add.at(counts[0], (groups[right], labels[right]), 1)
    return counts


def macro_f1(labels: np.ndarray, answers: np.ndarray) -> float:
    """Plain mean of the 18 classes' F1, zero_division 0, as the organisers compute it; int [N] each, 0..17."""
    labels, answers = np.asarray(labels), np.asarray(answers)
    return float(f1_per_class(*_counts(labels, answers, np.zeros(len(labels), int), 1)).mean())


def scores(labels: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """macro_f1, accuracy and the accuracy of each axis, all 0..1. labels, answers: int [N], 0..17."""
    found = {"macro_f1": macro_f1(labels, answers), "accuracy": float(np.mean(labels == answers))}
    for axis, true, said in zip(AXES, decode(labels), decode(answers), strict=True):
        found[f"{axis}_accuracy"] = float(np.mean(true == said))
    return found


def intervals(
    labels, answers, people, eval_people: int, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, list[float] | None]:
    """95 % intervals of macro F1 from resampling people: a person's seven photos succeed and fail together.

    labels, answers: int [N]; people: [N], the photos' person; eval_people: people on the eval side, 0 for none.
    Returns [lo, hi], percentiles 2.5 and 97.5, of
    macro_f1_ci95: people resampled within their gender x age bin (Efron & Tibshirani 1993, ch. 6, stratified);
    board95, board_half95: from each such resample as many people drawn as the eval side has (or half), in the same
    proportions: what a new set of that size may score, None without an eval side.
    """
    names, first, of_photo = np.unique(people, return_index=True, return_inverse=True)
    counts = _counts(np.asarray(labels), np.asarray(answers), of_photo, len(names))
    bins = stratum(np.asarray(labels)[first])
    members = [np.flatnonzero(bins == b) for b in np.unique(bins)]
    rng = np.random.default_rng(seed)
    resampled = [rng.integers(len(group), size=(resamples, len(group))) for group in members]
    found = {"macro_f1_ci95": _percentiles(counts, members, resampled)}
    for name, n in (("board95", eval_people), ("board_half95", eval_people // 2)):
        if n == 0:
            found[name] = None
            continue
        again = []
        for drawn, size in zip(resampled, _proportional([len(group) for group in members], n), strict=True):
            picks = rng.integers(drawn.shape[1], size=(resamples, size))
            again.append(np.take_along_axis(drawn, picks, 1))
        found[name] = _percentiles(counts, members, again)
    return found


def _percentiles(counts: np.ndarray, members: list[np.ndarray], drawn: list[np.ndarray]) -> list[float]:
    """drawn[b]: int [resamples, n], positions in members[b]. Returns macro F1's percentiles 2.5 and 97.5."""
    totals = 0
    for group, picks in zip(members, drawn, strict=True):
        resamples, size = len(picks), len(group)
        flat = picks + size * np.arange(resamples)[:, None]
        times = np.bincount(flat.ravel(), minlength=resamples * size).reshape(resamples, size)
        totals = totals + times @ counts[:, group]
    return [float(value) for value in np.percentile(f1_per_class(*totals).mean(1), (2.5, 97.5))]


def _proportional(sizes: list[int], n: int) -> np.ndarray:
    """`n` shared out in proportion to `sizes`, the largest remainders rounded up."""
    exact = np.array(sizes) * n / sum(sizes)
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: n - shares.sum()]] += 1
    return shares
