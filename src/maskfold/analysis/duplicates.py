"""The same portrait under two ids: candidates by perceptual hash and embedding, proved by laying one over the other."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from maskfold.data.photos import read_photo
from maskfold.progress import parallel

# Height and width at which photos are compared.
SIZE = (384, 288)
# The hash: signs of the lowest frequencies of a cosine transform (Zauner 2010), of the photo and of windows of it,
# since one of two copies may be cut. A window keeps this much of the sides.
HASH_SIDE, LOW = 32, 12
KEPT = (0.93, 0.86, 0.8, 0.74)
# Nearest neighbours that are looked at, by hash and by embedding each.
NEIGHBOURS = 5
# Points that a rotation, zoom and shift must bring together, and how alike the overlay must be then. Copies cut by 3 to
# 25 % of their sides and saved at JPEG quality 30 to 80 had 37 and .99 at least, portraits turned, zoomed and lit anew
# .83; of 600 people no two had over .4.
KEYPOINTS, LEAST_POINTS, LEAST_LIKENESS = 400, 12, 0.6
# Lowe 2004: a match is trusted where the next best is this much worse.
DISTINCT = 0.8
LEAST_OVERLAP = 0.3


def find_duplicates(people: Sequence[str], paths: Sequence[Path], embeddings: np.ndarray | None) -> pd.DataFrame:
    """Pairs of people whose photos are one portrait: person_a, person_b, likeness (0 to 1), points; the surest first.

    paths: a photo of each person; embeddings: float [P, F] of them, or None. Raises UserError for an unreadable photo.
    """
    photos = list(parallel(_read, list(paths), "reading portraits", "photos"))
    codes = np.stack([_hashes(photo) for photo in photos])
    near = _neighbours(np.maximum.reduce([codes[:, 0] @ codes[:, window].T for window in range(codes.shape[1])]))
    if embeddings is not None:
        unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        near |= _neighbours(unit @ unit.T)
    sift = cv2.SIFT_create(nfeatures=KEYPOINTS)
    points = list(parallel(lambda photo: sift.detectAndCompute(photo, None), photos, "looking for landmarks", "photos"))
    pairs = sorted(near)
    found = parallel(
        lambda pair: _overlay(*(photos[at] for at in pair), *(points[at] for at in pair)), pairs, "comparing", "pairs"
    )
    rows = [
        (people[a], people[b], likeness, together)
        for (a, b), (likeness, together) in zip(pairs, found, strict=True)
        if together >= LEAST_POINTS and likeness >= LEAST_LIKENESS
    ]
    table = pd.DataFrame(rows, columns=["person_a", "person_b", "likeness", "points"])
    return table.sort_values(["likeness", "points"], ascending=False, ignore_index=True)


def _read(path: Path) -> np.ndarray:
    """uint8 grey [*SIZE]."""
    return cv2.resize(
        cv2.cvtColor(read_photo(path).image, cv2.COLOR_RGB2GRAY), SIZE[::-1], interpolation=cv2.INTER_AREA
    )


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


def _overlay(one: np.ndarray, other: np.ndarray, points: tuple, others: tuple) -> tuple[float, int]:
    """(likeness of the details where one lies on the other, points that came together); (0, 0) where nothing fits."""
    (at, described), (there, also) = points, others
    if min(len(at), len(there)) < 2:
        return 0.0, 0
    matches = cv2.BFMatcher().knnMatch(described, also, k=2)
    close = [best for best, next_best in matches if best.distance < DISTINCT * next_best.distance]
    if len(close) < 2:
        return 0.0, 0
    source, goal = (
        np.float32([keys[getattr(match, end)].pt for match in close])
        for keys, end in ((at, "queryIdx"), (there, "trainIdx"))
    )
    # Its random draws begin anew in each call: the same photos give the same answer.
    cv2.setRNGSeed(0)
    moved, inside = cv2.estimateAffinePartial2D(source, goal, ransacReprojThreshold=4)
    if moved is None:
        return 0.0, 0
    laid = cv2.warpAffine(one, moved, SIZE[::-1])
    shared = cv2.erode(cv2.warpAffine(np.ones_like(one), moved, SIZE[::-1]), np.ones((9, 9), np.uint8)) > 0
    details = [_details(photo)[shared] for photo in (laid, other)]
    if shared.mean() < LEAST_OVERLAP or min(values.std() for values in details) == 0:
        return 0.0, 0
    return float(np.corrcoef(*details)[0, 1]), int(inside.sum())


def _details(photo: np.ndarray) -> np.ndarray:
    """Without light and noise: what lies between a blur of 1.5 and one of 8 pixels."""
    photo = photo.astype(np.float32)
    return cv2.GaussianBlur(photo, (0, 0), 1.5) - cv2.GaussianBlur(photo, (0, 0), 8)
