"""The same portrait under two ids: candidates by perceptual hash and embedding, proved by laying one over the other."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from maskfold.data.decode import read_photo
from maskfold.progress import parallel_map

# Height and width at which photos are compared.
SIZE = (384, 288)
# The hash: signs of the lowest frequencies of a cosine transform (Zauner 2010), of the photo and of windows of it,
# since one of two copies may be cut. A window keeps this much of the sides.
HASH_SIDE, LOW = 32, 12
KEPT = (0.93, 0.86, 0.8, 0.74)
# Nearest neighbours that are looked at, by hash and by embedding each.
NEIGHBOURS = 5
# Points that a rotation, zoom and shift must bring together, and how alike the overlay must then be, in each colour and
# in its details. Portraits cut by 3 to 25 % of their sides, saved at JPEG quality 30 to 80, or turned, zoomed and lit
# anew had 37, .997 and .83 at least. Of 600 people's portraits no two came near; of 600 drawn ones, which share a
# draughtsman, some had .95 of the details, but none over .90 of the colours.
KEYPOINTS, LEAST_POINTS, LEAST_LIKENESS, LEAST_DETAILS = 400, 12, 0.95, 0.6
# Lowe 2004: a match is trusted where the next best is this much worse.
DISTINCT = 0.8
LEAST_OVERLAP = 0.3


def find_duplicates(people: Sequence[str], paths: Sequence[Path], embeddings: np.ndarray | None) -> pd.DataFrame:
    """Pairs of people whose photos are one portrait: person_a, person_b, likeness, details, points; the surest first.

    Laid over each other: likeness, the correlation of the colour that is least alike; details, that of what is neither
    light nor noise; points, landmarks that came together.

    paths: a photo of each person; embeddings: float [P, F] of them, or None. Raises UserError for an unreadable photo.
    """
    photos = list(parallel_map(_read, list(paths), "reading portraits", "photos"))
    greys = [cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY) for photo in photos]
    codes = np.stack([_hashes(grey) for grey in greys])
    near = _neighbours(np.maximum.reduce([codes[:, 0] @ codes[:, window].T for window in range(codes.shape[1])]))
    if embeddings is not None:
        unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        near |= _neighbours(unit @ unit.T)
    sift = cv2.SIFT_create(nfeatures=KEYPOINTS)
    points = list(
        parallel_map(lambda grey: sift.detectAndCompute(grey, None), greys, "looking for landmarks", "photos")
    )
    pairs = sorted(near)
    found = parallel_map(
        lambda pair: _overlay(*(photos[at] for at in pair), *(points[at] for at in pair)), pairs, "comparing", "pairs"
    )
    rows = [
        (people[a], people[b], likeness, details, together)
        for (a, b), (likeness, details, together) in zip(pairs, found, strict=True)
        if together >= LEAST_POINTS and likeness >= LEAST_LIKENESS and details >= LEAST_DETAILS
    ]
    table = pd.DataFrame(rows, columns=["person_a", "person_b", "likeness", "details", "points"])
    return table.sort_values(["likeness", "points"], ascending=False, ignore_index=True)


def _read(path: Path) -> np.ndarray:
    """uint8 RGB [*SIZE, 3]."""
    return cv2.resize(read_photo(path).image, SIZE[::-1], interpolation=cv2.INTER_AREA)


def _hashes(photo: np.ndarray) -> np.ndarray:
    """float32 [W, B] of -1 and 1: the whole photo's first, then its windows'."""
    height, width = photo.shape
    found = [_hash(photo)]
    for kept in KEPT:
        high, wide = int(height * kept), int(width * kept)
        tops, lefts = ((0, (side - part) // 2, side - part) for side, part in ((height, high), (width, wide)))
        found += [_hash(photo[top : top + high, left : left + wide]) for top in tops for left in lefts]
    return np.stack(found)


def _hash(photo: np.ndarray) -> np.ndarray:
    small = cv2.resize(photo, (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    # Without the first, which is the mean brightness.
    low = cv2.dct(small)[:LOW, :LOW].ravel()[1:]
    return np.where(low > np.median(low), 1, -1).astype(np.float32)


def _neighbours(alike: np.ndarray) -> set[tuple[int, int]]:
    """The nearest of each, as pairs in order; alike: float [P, P], the larger the nearer."""
    alike = np.maximum(alike, alike.T)
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argsort(-alike, 1, kind="stable")[:, : min(NEIGHBOURS, len(alike) - 1)]
    return {(min(a, b), max(a, b)) for a, others in enumerate(nearest.tolist()) for b in others}


def _overlay(one: np.ndarray, other: np.ndarray, points: tuple, others: tuple) -> tuple[float, float, int]:
    """(likeness, details, points) where one photo is laid on the other; zeros where nothing fits."""
    (at, described), (there, also) = points, others
    if min(len(at), len(there)) < 2:
        return 0.0, 0.0, 0
    matches = cv2.BFMatcher().knnMatch(described, also, k=2)
    close = [best for best, next_best in matches if best.distance < DISTINCT * next_best.distance]
    if len(close) < 2:
        return 0.0, 0.0, 0
    source = np.array([at[match.queryIdx].pt for match in close], np.float32)
    goal = np.array([there[match.trainIdx].pt for match in close], np.float32)
    # Its random draws begin anew in each call: the same photos give the same answer.
    cv2.setRNGSeed(0)
    moved, inside = cv2.estimateAffinePartial2D(source, goal, ransacReprojThreshold=4)
    if moved is None:
        return 0.0, 0.0, 0
    laid = cv2.warpAffine(one, moved, SIZE[::-1])
    covered = cv2.warpAffine(np.ones(SIZE, np.uint8), moved, SIZE[::-1])
    shared = cv2.erode(covered, np.ones((9, 9), np.uint8)) > 0
    if shared.mean() < LEAST_OVERLAP:
        return 0.0, 0.0, 0
    colours = [_correlation(_blurred(laid, 2)[shared][:, at], _blurred(other, 2)[shared][:, at]) for at in range(3)]
    details = _correlation(_details(laid)[shared], _details(other)[shared])
    return min(colours), details, int(inside.sum())


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's, 0 where one of both does not vary."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    return 0.0 if min(one.std(), other.std()) < 1e-6 else float(np.corrcoef(one, other)[0, 1])


def _blurred(photo: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(photo.astype(np.float32), (0, 0), sigma)


def _details(photo: np.ndarray) -> np.ndarray:
    """Of the brightness: what lies between a blur of 1.5 and one of 8 pixels."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    return _blurred(grey, 1.5) - _blurred(grey, 8)
