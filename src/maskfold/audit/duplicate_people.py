"""Find the same portrait under two person ids.

Perceptual hashes and embeddings give candidate pairs; an alignment by keypoints confirms them.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from maskfold.data.decode import read_photo
from maskfold.progress import parallel_map

# Height and width in pixels at which photos are compared.
SIZE = (384, 288)
# Each bit of the perceptual hash tells whether a low-frequency coefficient of the cosine transform is above the median
# of these coefficients (Zauner 2010). Windows of the photo are hashed too, because one of two copies may be cropped.
# HASH_SIDE: side of the photo before the transform, in pixels. NUM_FREQUENCIES: frequencies per direction.
# WINDOW_SCALES: side of a window / side of the photo.
HASH_SIDE, NUM_FREQUENCIES = 32, 12
WINDOW_SCALES = (0.93, 0.86, 0.8, 0.74)
# Each person has this many candidates by hash, and as many by embedding.
NUM_NEIGHBOURS = 5
# MAX_KEYPOINTS: maximum number of keypoints that are detected in each photo. The other constants are the minimum values
# of a duplicate. MIN_POINTS: number of keypoints that agree on one rotation, zoom and shift. MIN_LIKENESS: correlation
# of the aligned photos in each colour channel. MIN_DETAILS: correlation of their details. The minimum values were
# tested with copies of real portraits that were cropped by 3 to 25 % of their sides, saved at JPEG quality 30 to 80, or
# rotated, zoomed and relit. The copies had at least 37 such keypoints, and correlations of at least 0.997 in the
# colours and 0.83 in the details. No pair of portraits of 600 different people came near these values. Some pairs of
# 600 synthetic portraits had a correlation of 0.95 in the details, but none more than 0.90 in the colours.
MAX_KEYPOINTS, MIN_POINTS, MIN_LIKENESS, MIN_DETAILS = 400, 12, 0.95, 0.6
# Ratio test (Lowe 2004): a match counts if its distance is below this share of the distance of the second-best match.
MAX_DISTANCE_RATIO = 0.8
MIN_OVERLAP = 0.3


def find_duplicates(people: Sequence[str], paths: Sequence[Path], embeddings: np.ndarray | None) -> pd.DataFrame:
    """Find pairs of people with the same portrait, the most similar first.

    people, paths: id and photo of each person, [P]; embeddings: float [P, F] of the photos, or None. Columns: person_a,
    person_b; likeness, the correlation of the aligned photos in the colour channel where it is lowest; details, the
    correlation of their medium frequencies; points, the number of keypoints that agree on the alignment. Raises
    UserError for an unreadable photo.
    """
    photos = list(parallel_map(_read, list(paths), "reading portraits", "photos"))
    greys = [cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY) for photo in photos]
    codes = np.stack([_hashes(grey) for grey in greys])
    candidates = _neighbours(hash_similarity(codes))
    if embeddings is not None:
        unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        candidates |= _neighbours(unit @ unit.T)
    sift = cv2.SIFT_create(nfeatures=MAX_KEYPOINTS)
    keypoints = list(parallel_map(lambda grey: sift.detectAndCompute(grey, None), greys, "finding keypoints", "photos"))
    pairs = sorted(candidates)
    similarities = parallel_map(
        lambda pair: _similarity(*(photos[row] for row in pair), *(keypoints[row] for row in pair)),
        pairs,
        "comparing",
        "pairs",
    )
    rows = [
        (people[a], people[b], likeness, details, points)
        for (a, b), (likeness, details, points) in zip(pairs, similarities, strict=True)
        if points >= MIN_POINTS and likeness >= MIN_LIKENESS and details >= MIN_DETAILS
    ]
    table = pd.DataFrame(rows, columns=["person_a", "person_b", "likeness", "details", "points"])
    return table.sort_values(["likeness", "points"], ascending=False, ignore_index=True)


def _read(path: Path) -> np.ndarray:
    """Read a photo and resize it to uint8 RGB [*SIZE, 3]."""
    return cv2.resize(read_photo(path).image, SIZE[::-1], interpolation=cv2.INTER_AREA)


def _hashes(photo: np.ndarray) -> np.ndarray:
    """Hash a grey photo, uint8 [H, W], and its windows.

    Returns float32 [1 + windows, bits] with the values -1 and 1. The first row is the hash of the whole photo.
    """
    height, width = photo.shape
    hashes = [_hash(photo)]
    for scale in WINDOW_SCALES:
        high, wide = int(height * scale), int(width * scale)
        tops, lefts = ((0, (side - part) // 2, side - part) for side, part in ((height, high), (width, wide)))
        hashes += [_hash(photo[top : top + high, left : left + wide]) for top in tops for left in lefts]
    return np.stack(hashes)


def _hash(photo: np.ndarray) -> np.ndarray:
    small = cv2.resize(photo, (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    # The first coefficient is the mean brightness, which differs between copies.
    low = cv2.dct(small)[:NUM_FREQUENCIES, :NUM_FREQUENCIES].ravel()[1:]
    return np.where(low > np.median(low), 1, -1).astype(np.float32)


def hash_similarity(codes: np.ndarray) -> np.ndarray:
    """Return the similarity of each photo to the most similar window of each other photo, float32 [P, P].

    The similarity is the dot product of the hashes. codes: _hashes of all photos, float32 [P, W, bits]; W counts the
    whole photo and its windows. The windows are compared one at a time, because all of them together would need W times
    the memory (15 GB for 10,000 people).
    """
    similarity = codes[:, 0] @ codes[:, 0].T
    for window in range(1, codes.shape[1]):
        np.maximum(similarity, codes[:, 0] @ codes[:, window].T, out=similarity)
    return similarity


def _neighbours(similarity: np.ndarray) -> set[tuple[int, int]]:
    """Pair each row with its NUM_NEIGHBOURS most similar rows. Returns pairs (lower row, higher row).

    similarity: float [P, P].
    """
    similarity = np.maximum(similarity, similarity.T)
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, 1, kind="stable")[:, : min(NUM_NEIGHBOURS, len(similarity) - 1)]
    return {(min(a, b), max(a, b)) for a, others in enumerate(nearest.tolist()) for b in others}


def _similarity(one: np.ndarray, other: np.ndarray, keypoints: tuple, others: tuple) -> tuple[float, float, int]:
    """Return (likeness, details, points) of two photos after alignment.

    All three are 0 if the photos cannot be aligned or overlap too little. keypoints, others: (keypoints, descriptors)
    of `one` and of `other` from cv2.SIFT.
    """
    (points, descriptors), (other_points, other_descriptors) = keypoints, others
    if min(len(points), len(other_points)) < 2:
        return 0.0, 0.0, 0
    matches = cv2.BFMatcher().knnMatch(descriptors, other_descriptors, k=2)
    close = [best for best, second in matches if best.distance < MAX_DISTANCE_RATIO * second.distance]
    if len(close) < 2:
        return 0.0, 0.0, 0
    source = np.array([points[match.queryIdx].pt for match in close], np.float32)
    target = np.array([other_points[match.trainIdx].pt for match in close], np.float32)
    # RANSAC samples at random. With a fixed seed, the same photos give the same result.
    cv2.setRNGSeed(0)
    transform, inliers = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=4)
    if transform is None:
        return 0.0, 0.0, 0
    aligned = cv2.warpAffine(one, transform, SIZE[::-1])
    covered = cv2.warpAffine(np.ones(SIZE, np.uint8), transform, SIZE[::-1])
    # Pixels at the border of the aligned photo are interpolated with black, so they are left out.
    shared = cv2.erode(covered, np.ones((9, 9), np.uint8)) > 0
    if shared.mean() < MIN_OVERLAP:
        return 0.0, 0.0, 0
    blurred, other_blurred = _blurred(aligned, 2)[shared], _blurred(other, 2)[shared]
    colours = [_correlation(blurred[:, channel], other_blurred[:, channel]) for channel in range(3)]
    details = _correlation(_details(aligned)[shared], _details(other)[shared])
    return min(colours), details, int(inliers.sum())


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation; 0 if one of the two is constant."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    return 0.0 if min(one.std(), other.std()) < 1e-6 else float(np.corrcoef(one, other)[0, 1])


def _blurred(photo: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(photo.astype(np.float32), (0, 0), sigma)


def _details(photo: np.ndarray) -> np.ndarray:
    """Medium frequencies of the brightness: the difference of Gaussian blurs with sigma 1.5 and 8 pixels."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    return _blurred(grey, 1.5) - _blurred(grey, 8)
