"""Render synthetic people whose appearance depends on gender and age, but overlaps widely between the classes."""

import cv2
import numpy as np

from maskfold.synthetic import portrait
from maskfold.synthetic.portrait import CX, HEIGHT, WIDTH, Appearance

SKIN = ((246, 214, 187), (236, 197, 165), (224, 180, 145), (205, 158, 122))
HAIR = ((28, 24, 24), (45, 34, 30), (70, 48, 36), (96, 66, 44))
BLEACHED = ((150, 132, 112), (176, 160, 140), (128, 120, 122))
CLOTH = ((40, 44, 60), (150, 40, 50), (60, 90, 70), (210, 205, 195), (90, 90, 95), (190, 150, 90), (120, 90, 140))


def sample_appearance(female: bool, age: int, rng: np.random.Generator) -> Appearance:
    """Sample an appearance for a gender and an age in years; every feature overlaps widely between the classes."""

    def by_gender(male_mean: float, female_mean: float, std: float) -> float:
        return float(rng.normal(female_mean if female else male_mean, std))

    # Half of the people aged 40 or more have no grey hair, and some people have bleached hair, so that the hair colour
    # does not determine the age.
    grey = rng.uniform(0.15, 0.9) if age >= 40 and rng.random() < 0.5 else 0.0
    tones = BLEACHED if rng.random() < (0.3 if age < 40 else 0.1) else HAIR
    tone = np.array(tones[rng.integers(len(tones))], float)
    skin = np.array(SKIN[rng.integers(len(SKIN))], float) + rng.normal(0, 5, 3)
    receding = 0.0 if female else np.clip((age - 35) / 40 + rng.normal(0, 0.3), 0, 1)
    return Appearance(
        skin=tuple(skin),
        hair=tuple(tone * (1 - grey) + 190 * grey + rng.normal(0, 4)),
        hair_length=np.clip(by_gender(0.12, 0.72, 0.22), 0, 1),
        fringe=np.clip(by_gender(0.3, 0.4, 0.3), 0, 1),
        hairline=receding * 0.6,
        face_width=by_gender(88, 82, 4),
        jaw=np.clip(by_gender(0.7, 0.35, 0.2), 0, 1),
        brow=np.clip(by_gender(6.0, 3.8, 1.2), 2, 9),
        eye=by_gender(10.5, 12.5, 1.3) - 1.5 * (age > 45),
        lips=np.clip(by_gender(0.2, 0.6, 0.25), 0, 1),
        stubble=0.0 if female else max(0.0, rng.normal(0.12, 0.15)),
        wrinkles=np.clip((age - 26) / 30 + rng.normal(0, 0.14), 0, 1.2),
        glasses=int(rng.integers(1, 3)) if rng.random() < 0.2 + 0.25 * (age > 45) else 0,
        cloth=tuple(np.array(CLOTH[rng.integers(len(CLOTH))]) + rng.normal(0, 10, 3)),
        collar=int(rng.integers(3)),
    )


def render_photo(person: Appearance, wearing: str, rng: np.random.Generator) -> np.ndarray:
    """Render one photo of a person, RGB uint8 [512, 384, 3].

    wearing: how the mask is worn: "correct", "nose" (nose uncovered), "chin" (nose and mouth uncovered) or "none".
    """
    image = _background(rng)
    portrait.draw_hair_behind(image, person)
    portrait.draw_clothes(image, person)
    portrait.draw_face(image, person)
    portrait.draw_features(image, person, rng)
    portrait.draw_hair_in_front(image, person)
    portrait.draw_glasses(image, person)
    if wearing != "none":
        portrait.draw_mask(image, person, wearing, rng)
    return _camera(image, rng)


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
