"""Draw the parts of a synthetic person. The draw_* functions draw into the given photo, RGB uint8 [512, 384, 3]."""

from dataclasses import dataclass

import cv2
import numpy as np

WIDTH, HEIGHT = 384, 512
MASK_COLOURS = ((240, 240, 242), (178, 208, 230), (50, 50, 54), (225, 205, 210), (120, 130, 120))
# Positions in pixels: x of the centre line of the face, and y of its landmarks.
CX, EYES, NOSE, MOUTH, CHIN, TOP = 192, 232, 282, 318, 366, 128


@dataclass(frozen=True)
class Appearance:
    """What all photos of a person share: colours (RGB, 0 to 255), lengths in pixels, and amounts from 0 to about 1."""

    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    hair_length: float  # 0 very short, 1 below the shoulders
    fringe: float
    hairline: float  # 0 low, 1 receded
    face_width: float
    jaw: float  # 0 pointed, 1 square
    brow: float
    eye: float
    lips: float
    stubble: float
    wrinkles: float
    glasses: int  # 0 none, 1 round, 2 square
    cloth: tuple[float, float, float]
    collar: int  # 0 none, 1 V-neck, 2 shirt collar


def _fill(image, points, colour):
    cv2.fillPoly(image, [np.round(np.asarray(points) * 8).astype(np.int32)], colour, cv2.LINE_AA, 3)


def _line(image, points, colour, thickness, alpha=1.0):
    points = np.asarray(points, float)
    # Blend only the area around the line: copying the whole photo for each wrinkle took most of the rendering time.
    low = np.maximum(points.min(0).astype(int) - 12, 0)
    high = points.max(0).astype(int) + 12
    part = image[low[1] : high[1], low[0] : high[0]]
    over = part.copy()
    path = np.round((points - low) * 8).astype(np.int32)
    cv2.polylines(over, [path], False, colour, max(1, round(thickness)), cv2.LINE_AA, 3)
    cv2.addWeighted(over, min(alpha, 1.0), part, 1 - min(alpha, 1.0), 0, part)


def _ellipse(image, centre, axes, colour, start=0, end=360, thickness=-1):
    centre, axes = tuple(map(round, centre)), tuple(map(round, axes))
    cv2.ellipse(image, centre, axes, 0, start, end, colour, thickness, cv2.LINE_AA)


def _outline(person: Appearance, n: int = 48) -> np.ndarray:
    """Contour of the head, float [n, 2] (x, y): half an ellipse above the eyes, and below them a jaw."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    x, y = np.sin(t), -np.cos(t)
    power = np.where(y > 0, 0.95 - 0.35 * person.jaw, 1.0)
    width = person.face_width * np.sign(x) * np.abs(x) ** power
    return np.stack([CX + width, np.where(y < 0, EYES + y * (EYES - TOP), EYES + y * (CHIN - EYES))], 1)


def draw_hair_behind(image, person):
    if person.hair_length > 0.25:
        low = EYES + 60 + 190 * person.hair_length
        wide = person.face_width + 18 + 14 * person.hair_length
        top = [(CX + wide * np.cos(a), EYES - 10 - 112 * np.sin(a)) for a in np.linspace(0, np.pi, 24)]
        _fill(
            image,
            [*top, (CX - wide, low), (CX - wide * 0.5, low + 12), (CX + wide * 0.5, low + 12), (CX + wide, low)],
            person.hair,
        )


def draw_clothes(image, person):
    shade = tuple(0.8 * c for c in person.skin)
    _fill(image, [(CX - 40, CHIN - 40), (CX + 40, CHIN - 40), (CX + 48, HEIGHT), (CX - 48, HEIGHT)], shade)
    _fill(
        image,
        [(CX - 52, 418), (CX + 52, 418), (CX + 150, 456), (CX + 185, HEIGHT), (CX - 185, HEIGHT), (CX - 150, 456)],
        person.cloth,
    )
    if person.collar == 1:
        _fill(image, [(CX - 40, 416), (CX + 40, 416), (CX, 474)], shade)
    elif person.collar == 2:
        light = tuple(min(255.0, c + 60) for c in person.cloth)
        _fill(image, [(CX - 50, 408), (CX, 440), (CX - 30, 478)], light)
        _fill(image, [(CX + 50, 408), (CX, 440), (CX + 30, 478)], light)


def draw_face(image, person):
    ear = tuple(0.92 * c for c in person.skin)
    for side in (-1, 1):
        _ellipse(image, (CX + side * (person.face_width + 2), EYES + 18), (11, 24), ear)
    _fill(image, _outline(person), person.skin)
    if person.stubble > 0:
        over = image.copy()
        _fill(over, [p for p in _outline(person) if p[1] > NOSE + 12], tuple(0.45 * c for c in person.skin))
        cv2.addWeighted(over, min(0.5, person.stubble), image, 1 - min(0.5, person.stubble), 0, image)


def draw_features(image, person, rng):
    dark = tuple(0.6 * c for c in person.skin)
    gaze = rng.normal(0, 1.5)
    for side in (-1, 1):
        x = CX + side * person.face_width * 0.44
        _ellipse(image, (x, EYES), (17, person.eye * 0.75), (246, 244, 240))
        _ellipse(image, (x + gaze, EYES), (person.eye * 0.62, person.eye * 0.7), (52, 36, 28))
        _ellipse(image, (x + gaze + 2, EYES - 2), (2, 2), (250, 250, 250))
        _ellipse(image, (x, EYES), (18, person.eye * 0.8), (40, 30, 28), 190, 350, 2)
        brow = [(x + side * d, EYES - 22 - 5 * np.sin(d / 20 + 1)) for d in (-19, -6, 8, 22)]
        _line(image, brow, tuple(0.75 * c for c in person.hair), person.brow)
    _wrinkles(image, person, dark)
    nose = [(CX - 4, EYES + 8), (CX - 9, NOSE - 6), (CX - 14, NOSE + 4), (CX, NOSE + 8), (CX + 14, NOSE + 4)]
    _line(image, nose, dark, 3, 0.75)
    red = np.array((190, 70, 80)) * person.lips + np.array(person.skin) * 0.75 * (1 - person.lips)
    corner = MOUTH - rng.uniform(-3, 6)
    upper = [(CX - 30, corner), (CX - 8, MOUTH - 7), (CX, MOUTH - 4), (CX + 8, MOUTH - 7), (CX + 30, corner)]
    _fill(image, [*upper, (CX, MOUTH + 10)], red.tolist())
    _line(image, [(CX - 30, corner), (CX, MOUTH + 1), (CX + 30, corner)], (90, 45, 45), 2)


def _wrinkles(image, person, dark):
    depth = person.wrinkles
    for side in (-1, 1):
        x = CX + side * person.face_width * 0.44
        _line(image, [(x - 15, EYES + 14), (x, EYES + 19), (x + 15, EYES + 14)], dark, 3, 0.7 * depth)
        _line(image, [(x - 11, EYES + 22), (x + 2, EYES + 26), (x + 12, EYES + 22)], dark, 2, 0.6 * depth)
        for n in range(3):
            foot = [(x + side * 21, EYES - 2 + 3 * n), (x + side * 37, EYES - 10 + 10 * n)]
            _line(image, foot, dark, 3, 0.75 * depth)
        fold = [(CX + side * 22, NOSE - 4), (CX + side * 36, NOSE + 16), (CX + side * 40, MOUTH + 8)]
        _line(image, fold, dark, 4, 0.9 * depth)
        _line(image, [(CX + side * 8, EYES - 26), (CX + side * 6, EYES - 12)], dark, 3, 0.7 * depth)
    for n in range(4):
        y = EYES - 38 - 13 * n
        brow = [(CX - 48, y + 3), (CX, y - 3), (CX + 48, y + 3)]
        _line(image, brow, dark, 3, float(np.clip(depth - 0.12 * n, 0, 0.9)))


def draw_hair_in_front(image, person):
    line = TOP + 30 + 42 * person.fringe * (1 - person.hairline) - 22 * person.hairline
    wide = person.face_width + 8
    crown = [(CX + wide * np.cos(a), EYES - 12 - (EYES - TOP + 6) * np.sin(a)) for a in np.linspace(0, np.pi, 32)]
    temple = 30 * (1 - person.hairline)
    lower = [
        (CX - wide + 10, EYES - temple),
        (CX - wide * 0.6, line + 8),
        (CX - 10, line),
        (CX + wide * 0.6, line + 10),
        (CX + wide - 10, EYES - temple),
    ]
    _fill(image, [*crown, *lower], person.hair)
    strand = tuple(0.8 * c for c in person.hair)
    for offset in (-0.7, -0.35, 0, 0.35, 0.7):
        _line(image, [(CX + offset * wide * 0.6, TOP + 2), (CX + offset * wide, line - 4)], strand, 2, 0.6)


def draw_glasses(image, person):
    if not person.glasses:
        return
    frame = tuple(c * 0.4 for c in person.cloth)
    for side in (-1, 1):
        x, y = CX + side * person.face_width * 0.44, EYES + 2
        if person.glasses == 1:
            _ellipse(image, (x, y), (27, 23), frame, thickness=3)
        else:
            cv2.rectangle(image, (round(x - 28), y - 18), (round(x + 28), y + 19), frame, 3, cv2.LINE_AA)
        _line(image, [(x + side * 28, y - 4), (CX + side * person.face_width, EYES + 4)], frame, 3)
    _line(image, [(CX - 10, EYES), (CX + 10, EYES)], frame, 3)


def draw_mask(image, person, wearing, rng):
    top = {"correct": EYES + 34, "nose": NOSE + 14, "chin": MOUTH + 20}[wearing] + rng.normal(0, 3)
    contour = _outline(person)
    low = CHIN + {"correct": 4, "nose": 5, "chin": 18}[wearing]
    half = person.face_width * np.interp(top, (EYES, CHIN), (1.0, 0.72))
    peak = top - (16 if wearing == "correct" else 5)
    cut = [(x, min(y + 5, low)) for x, y in contour if y > top + 6]
    right = sorted((p for p in cut if p[0] >= CX), key=lambda p: p[1])
    left = sorted((p for p in cut if p[0] < CX), key=lambda p: -p[1])
    colour = np.array(MASK_COLOURS[rng.integers(len(MASK_COLOURS))], float) + rng.normal(0, 6, 3)
    ear = EYES + (14 if wearing != "chin" else 60)
    for side in (-1, 1):
        loop = (CX + side * (person.face_width + 4), ear)
        for end in (top, low - 26):
            _line(image, [(CX + side * half * 0.97, end), loop], (225, 225, 225), 2)
    _fill(
        image,
        [(CX - half, top), (CX - 24, peak), (CX, peak - 4), (CX + 24, peak), (CX + half, top), *right, *left],
        colour.tolist(),
    )
    fold = (0.86 * colour).tolist()
    if rng.random() < 0.6:
        for y in np.linspace(top + 12, low - 12, 3):
            _line(image, [(CX - half * 0.8, y), (CX, y + 5), (CX + half * 0.8, y)], fold, 2)
    else:
        _line(image, [(CX, peak - 4), (CX, low)], fold, 2)
