"""Draws a person's photo out of numbers: looks that lean on gender and age without giving them away, RGB 384x512."""

from dataclasses import dataclass

import cv2
import numpy as np

WIDTH, HEIGHT = 384, 512
SKIN = ((246, 214, 187), (236, 197, 165), (224, 180, 145), (205, 158, 122))
HAIR = ((28, 24, 24), (45, 34, 30), (70, 48, 36), (96, 66, 44))
BLEACHED = ((150, 132, 112), (176, 160, 140), (128, 120, 122))
CLOTH = ((40, 44, 60), (150, 40, 50), (60, 90, 70), (210, 205, 195), (90, 90, 95), (190, 150, 90), (120, 90, 140))
MASK_COLOURS = ((240, 240, 242), (178, 208, 230), (50, 50, 54), (225, 205, 210), (120, 130, 120))


@dataclass(frozen=True)
class Look:
    """What stays the same in a person's seven photos. Lengths in pixels, shares 0..1."""

    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    hair_length: float  # 0 cropped .. 1 over the shoulders
    fringe: float
    hairline: float  # how far it has receded
    face_width: float
    jaw: float  # 0 pointed .. 1 square
    brow: float
    eye: float
    lips: float
    stubble: float
    wrinkles: float
    glasses: int  # 0 none, 1 round, 2 square
    cloth: tuple[float, float, float]
    collar: int


def draw_look(female: bool, age: int, rng: np.random.Generator) -> Look:
    """A look drawn given gender and age in years: every feature overlaps widely between the classes."""

    def lean(male: float, woman: float, spread: float) -> float:
        return float(rng.normal(woman if female else male, spread))

    # Half of those who go grey dye it, and some of the young bleach theirs: the hair's colour alone tells little.
    grey = rng.uniform(0.15, 0.9) if age >= 40 and rng.random() < 0.5 else 0.0
    tones = BLEACHED if rng.random() < (0.3 if age < 40 else 0.1) else HAIR
    tone = np.array(tones[rng.integers(len(tones))], float)
    skin = np.array(SKIN[rng.integers(len(SKIN))], float) + rng.normal(0, 5, 3)
    receding = 0.0 if female else np.clip((age - 35) / 40 + rng.normal(0, 0.3), 0, 1)
    return Look(
        skin=tuple(skin),
        hair=tuple(tone * (1 - grey) + 190 * grey + rng.normal(0, 4)),
        hair_length=np.clip(lean(0.12, 0.72, 0.22), 0, 1),
        fringe=np.clip(lean(0.4, 0.55, 0.3), 0, 1),
        hairline=receding * 0.6,
        face_width=lean(88, 82, 4),
        jaw=np.clip(lean(0.7, 0.35, 0.2), 0, 1),
        brow=np.clip(lean(6.0, 3.8, 1.2), 2, 9),
        eye=lean(10.5, 12.5, 1.3) - 1.5 * (age > 45),
        lips=np.clip(lean(0.2, 0.6, 0.25), 0, 1),
        stubble=0.0 if female else max(0.0, rng.normal(0.12, 0.15)),
        wrinkles=np.clip((age - 27) / 33 + rng.normal(0, 0.16), 0, 1.1),
        glasses=int(rng.integers(1, 3)) if rng.random() < 0.2 + 0.25 * (age > 45) else 0,
        cloth=tuple(np.array(CLOTH[rng.integers(len(CLOTH))]) + rng.normal(0, 10, 3)),
        collar=int(rng.integers(3)),
    )


def draw_photo(look: Look, wearing: str, rng: np.random.Generator) -> np.ndarray:
    """One photo, uint8 RGB [512, 384, 3]; `wearing` is right, nose (nose out), chin (mouth out) or none."""
    image = _background(rng)
    _hair_behind(image, look)
    _clothes(image, look)
    _face(image, look)
    _features(image, look, rng)
    _hair_before(image, look)
    _glasses(image, look)
    if wearing != "none":
        _mask(image, look, wearing, rng)
    return _camera(image, rng)


CX, EYES, NOSE, MOUTH, CHIN, TOP = 192, 232, 282, 318, 366, 128


def _fill(image, points, colour):
    cv2.fillPoly(image, [np.round(np.asarray(points) * 8).astype(np.int32)], colour, cv2.LINE_AA, 3)


def _line(image, points, colour, thickness, alpha=1.0):
    points = np.asarray(points, float)
    # Only the line's surroundings are blended: copying the whole photo for each wrinkle took most of the time.
    low = np.maximum(points.min(0).astype(int) - 12, 0)
    high = points.max(0).astype(int) + 12
    part = image[low[1] : high[1], low[0] : high[0]]
    over = part.copy()
    path = np.round((points - low) * 8).astype(np.int32)
    cv2.polylines(over, [path], False, colour, max(1, round(thickness)), cv2.LINE_AA, 3)
    cv2.addWeighted(over, min(alpha, 1.0), part, 1 - min(alpha, 1.0), 0, part)


def _ellipse(image, centre, axes, colour, start=0, end=360, thickness=-1):
    cv2.ellipse(
        image, tuple(map(round, centre)), tuple(map(round, axes)), 0, start, end, colour, thickness, cv2.LINE_AA
    )


def _outline(look: Look, n: int = 48) -> np.ndarray:
    """The head's contour: an ellipse above, a jaw below that is squarer for a higher `jaw`."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    x, y = np.sin(t), -np.cos(t)
    power = np.where(y > 0, 0.95 - 0.35 * look.jaw, 1.0)
    width = look.face_width * np.sign(x) * np.abs(x) ** power
    return np.stack([CX + width, np.where(y < 0, EYES + y * (EYES - TOP), EYES + y * (CHIN - EYES))], 1)


def _background(rng):
    far, near = rng.uniform(60, 235, (2, 3))
    across = np.linspace(0, 1, WIDTH)[None, :, None]
    down = np.linspace(0, 1, HEIGHT)[:, None, None]
    mix = across * rng.uniform(-1, 1) + down * rng.uniform(-1, 1)
    image = np.clip(far + (near - far) * (mix - mix.min()) / (np.ptp(mix) + 1e-6), 0, 255).astype(np.uint8)
    for _ in range(rng.integers(0, 6)):
        corner = rng.integers((0, 0), (WIDTH, HEIGHT))
        size = rng.integers(20, 160, 2)
        cv2.rectangle(image, corner.tolist(), (corner + size).tolist(), rng.uniform(40, 240, 3).tolist(), -1)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(1, 9))


def _hair_behind(image, look):
    if look.hair_length > 0.25:
        low = EYES + 60 + 190 * look.hair_length
        wide = look.face_width + 18 + 14 * look.hair_length
        top = [(CX + wide * np.cos(a), EYES - 10 - 112 * np.sin(a)) for a in np.linspace(0, np.pi, 24)]
        _fill(
            image,
            [*top, (CX - wide, low), (CX - wide * 0.5, low + 12), (CX + wide * 0.5, low + 12), (CX + wide, low)],
            look.hair,
        )


def _clothes(image, look):
    shade = tuple(0.8 * c for c in look.skin)
    _fill(image, [(CX - 40, CHIN - 40), (CX + 40, CHIN - 40), (CX + 48, HEIGHT), (CX - 48, HEIGHT)], shade)
    _fill(
        image,
        [(CX - 52, 418), (CX + 52, 418), (CX + 150, 456), (CX + 185, HEIGHT), (CX - 185, HEIGHT), (CX - 150, 456)],
        look.cloth,
    )
    if look.collar == 1:
        _fill(image, [(CX - 40, 416), (CX + 40, 416), (CX, 474)], shade)
    elif look.collar == 2:
        light = tuple(min(255.0, c + 60) for c in look.cloth)
        _fill(image, [(CX - 50, 408), (CX, 440), (CX - 30, 478)], light)
        _fill(image, [(CX + 50, 408), (CX, 440), (CX + 30, 478)], light)


def _face(image, look):
    ear = tuple(0.92 * c for c in look.skin)
    for side in (-1, 1):
        _ellipse(image, (CX + side * (look.face_width + 2), EYES + 18), (11, 24), ear)
    _fill(image, _outline(look), look.skin)
    if look.stubble > 0:
        over = image.copy()
        _fill(over, [p for p in _outline(look) if p[1] > NOSE + 12], tuple(0.45 * c for c in look.skin))
        cv2.addWeighted(over, min(0.5, look.stubble), image, 1 - min(0.5, look.stubble), 0, image)


def _features(image, look, rng):
    dark = tuple(0.62 * c for c in look.skin)
    gaze = rng.normal(0, 1.5)
    for side in (-1, 1):
        x = CX + side * look.face_width * 0.44
        _ellipse(image, (x, EYES), (17, look.eye * 0.75), (246, 244, 240))
        _ellipse(image, (x + gaze, EYES), (look.eye * 0.62, look.eye * 0.7), (52, 36, 28))
        _ellipse(image, (x + gaze + 2, EYES - 2), (2, 2), (250, 250, 250))
        _ellipse(image, (x, EYES), (18, look.eye * 0.8), (40, 30, 28), 190, 350, 2)
        brow = [(x + side * d, EYES - 22 - 5 * np.sin(d / 20 + 1)) for d in (-19, -6, 8, 22)]
        _line(image, brow, tuple(0.75 * c for c in look.hair), look.brow)
        _line(image, [(x - 13, EYES + 15), (x, EYES + 19), (x + 13, EYES + 15)], dark, 2, 0.55 * look.wrinkles)
        for n in range(3):
            foot = [(x + side * 22, EYES - 2 + 3 * n), (x + side * 36, EYES - 9 + 9 * n)]
            _line(image, foot, dark, 2, 0.7 * look.wrinkles)
        fold = [(CX + side * 22, NOSE - 4), (CX + side * 36, NOSE + 16), (CX + side * 40, MOUTH + 4)]
        _line(image, fold, dark, 3, 0.8 * look.wrinkles)
    for n in range(4):
        y = TOP + 44 + 12 * n
        _line(
            image,
            [(CX - 46, y + 2), (CX, y - 3), (CX + 46, y + 2)],
            dark,
            2,
            np.clip(look.wrinkles * 1.1 - 0.15 * n, 0, 0.9),
        )
    _line(
        image,
        [(CX - 4, EYES + 8), (CX - 9, NOSE - 6), (CX - 14, NOSE + 4), (CX, NOSE + 8), (CX + 14, NOSE + 4)],
        dark,
        3,
        0.75,
    )
    red = np.array((190, 70, 80)) * look.lips + np.array(look.skin) * 0.75 * (1 - look.lips)
    smile = rng.uniform(-3, 6)
    _fill(
        image,
        [
            (CX - 30, MOUTH - smile),
            (CX - 8, MOUTH - 7),
            (CX, MOUTH - 4),
            (CX + 8, MOUTH - 7),
            (CX + 30, MOUTH - smile),
            (CX, MOUTH + 10),
        ],
        red.tolist(),
    )
    _line(image, [(CX - 30, MOUTH - smile), (CX, MOUTH + 1), (CX + 30, MOUTH - smile)], (90, 45, 45), 2)


def _hair_before(image, look):
    line = TOP + 30 + 42 * look.fringe * (1 - look.hairline) - 22 * look.hairline
    wide = look.face_width + 8
    crown = [(CX + wide * np.cos(a), EYES - 12 - (EYES - TOP + 6) * np.sin(a)) for a in np.linspace(0, np.pi, 32)]
    temple = 30 * (1 - look.hairline)
    lower = [
        (CX - wide + 10, EYES - temple),
        (CX - wide * 0.6, line + 8),
        (CX - 10, line),
        (CX + wide * 0.6, line + 10),
        (CX + wide - 10, EYES - temple),
    ]
    _fill(image, [*crown, *lower], look.hair)
    strand = tuple(0.8 * c for c in look.hair)
    for offset in (-0.7, -0.35, 0, 0.35, 0.7):
        _line(image, [(CX + offset * wide * 0.6, TOP + 2), (CX + offset * wide, line - 4)], strand, 2, 0.6)


def _glasses(image, look):
    if not look.glasses:
        return
    frame = tuple(c * 0.4 for c in look.cloth)
    for side in (-1, 1):
        x, y = CX + side * look.face_width * 0.44, EYES + 2
        if look.glasses == 1:
            _ellipse(image, (x, y), (27, 23), frame, thickness=3)
        else:
            cv2.rectangle(image, (round(x - 28), y - 18), (round(x + 28), y + 19), frame, 3, cv2.LINE_AA)
        _line(image, [(x + side * 28, y - 4), (CX + side * look.face_width, EYES + 4)], frame, 3)
    _line(image, [(CX - 10, EYES), (CX + 10, EYES)], frame, 3)


def _mask(image, look, wearing, rng):
    top = {"right": EYES + 34, "nose": NOSE + 14, "chin": MOUTH + 20}[wearing] + rng.normal(0, 3)
    contour = _outline(look)
    low = CHIN + {"right": 4, "nose": 5, "chin": 18}[wearing]
    half = look.face_width * np.interp(top, (EYES, CHIN), (1.0, 0.72))
    peak = top - (16 if wearing == "right" else 5)
    cut = [(x, min(y + 5, low)) for x, y in contour if y > top + 6]
    right = sorted((p for p in cut if p[0] >= CX), key=lambda p: p[1])
    left = sorted((p for p in cut if p[0] < CX), key=lambda p: -p[1])
    colour = np.array(MASK_COLOURS[rng.integers(len(MASK_COLOURS))], float) + rng.normal(0, 6, 3)
    ear = EYES + (14 if wearing != "chin" else 60)
    for side in (-1, 1):
        for end in (top, low - 26):
            _line(image, [(CX + side * half * 0.97, end), (CX + side * (look.face_width + 4), ear)], (225, 225, 225), 2)
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


def _camera(image, rng):
    turn = cv2.getRotationMatrix2D((CX, 260), rng.normal(0, 4), rng.uniform(0.88, 1.12))
    turn[:, 2] += rng.normal(0, 9), rng.normal(0, 9)
    image = cv2.warpAffine(image, turn, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT).astype(np.float32)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    side = rng.uniform(-1, 1, 2)
    light = 1 + 0.22 * (side[0] * (x / WIDTH - 0.5) + side[1] * (y / HEIGHT - 0.5))
    image = image * light[..., None] * rng.uniform(0.78, 1.15) * rng.uniform(0.94, 1.06, 3).astype(
        np.float32
    ) + rng.uniform(-12, 12)
    image += rng.standard_normal((HEIGHT, WIDTH, 1), np.float32) * np.float32(rng.uniform(2, 7))
    image = np.clip(image, 0, 255).astype(np.uint8)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3))
