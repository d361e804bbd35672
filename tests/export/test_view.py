"""The page's crop and resize, view.js, under node: the same bytes as loading/crops.py gives with OpenCV."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT

from maskfold.config.experiment import Data
from maskfold.export.page_settings import preprocessing_settings
from maskfold.loading.crops import CROPS, crop_and_resize
from maskfold.loading.faces import DETECT_SIDE
from maskfold.loading.transforms import EvalTransform

BROWSER = ROOT / "src" / "maskfold" / "export" / "browser"
pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def sha256_of(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def python_line(image: np.ndarray, data: Data, face: tuple[float, ...] | None) -> str:
    """What view_hashes.mjs should print: window, hash of the input, hash and size of the photo for the detector."""
    top, left, height, width = CROPS[data.crop].window(image.shape[:2], data, 1, face)
    pixels = EvalTransform(data)(crop_and_resize(image, data, face))
    scale = min(1.0, DETECT_SIDE / max(image.shape[:2]))
    small_height, small_width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (small_width, small_height), interpolation=cv2.INTER_AREA) if scale < 1 else image
    window = f"{top},{left},{height},{width}"
    return f"{window} {sha256_of(pixels)} {sha256_of(small)} {small_height} {small_width}"


def javascript_lines(cases: list[tuple[np.ndarray, Data, tuple[float, ...] | None]], folder: Path) -> list[str]:
    with (folder / "pixels.bin").open("wb") as file:
        for image, _, _ in cases:
            file.write(image.tobytes())
    rows = [
        {"height": len(image), "width": image.shape[1], "settings": preprocessing_settings(data), "face": face}
        for image, data, face in cases
    ]
    (folder / "cases.json").write_text(json.dumps(rows))
    files = [BROWSER / "view.js", folder / "cases.json", folder / "pixels.bin"]
    command = ["node", Path(__file__).with_name("view_hashes.mjs"), *files]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout.splitlines()


def random_case(rng: np.random.Generator, max_side: int) -> tuple[np.ndarray, Data, tuple[float, ...] | None]:
    """A photo of random size, from one pixel on, with noise; random settings; a face that may cross the border."""
    height, width = (int(2 ** rng.uniform(0, np.log2(max_side))) for _ in range(2))
    sides = [16, 32, 60, 64, 72, 96, 100, 128, 160, 224, 225]
    data = Data(
        crop=str(rng.choice(list(CROPS))),
        crop_size=tuple(int(n) for n in rng.integers(16, 500, 2)),
        face_margin=float(rng.choice([0, 0.25, 0.4, 1.3])),
        image_size=tuple(int(n) for n in rng.choice(sides, 2)),
    )
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), 1.5)
    left, top = rng.uniform(-0.2, 0.9, 2) * (width, height)
    face = (float(left), float(top), float(rng.uniform(0.1, 0.9) * width), float(rng.uniform(0.1, 0.9) * height))
    return image, data, face if rng.random() < 0.8 else None


def test_small_photos(tmp_path):
    rng = np.random.default_rng(0)
    cases = [random_case(rng, 200) for _ in range(60)]
    assert javascript_lines(cases, tmp_path) == [python_line(*case) for case in cases]


@pytest.mark.parametrize("crop", list(CROPS))
def test_whole_factors_and_halves(crop, tmp_path):
    """Photos that shrink by whole factors (OpenCV adds integers), by other factors on each side, or not at all."""
    rng = np.random.default_rng(1)
    data = Data(crop=crop, image_size=(32, 24), crop_size=(4000, 4000))
    sizes = [(40, 30), (80, 60), (120, 90), (160, 90), (80, 120), (40 * 5, 30 * 7), (32, 24), (60, 45), (400, 31)]
    cases = [(rng.integers(0, 256, (*size, 3), np.uint8), data, (3.0, 4.0, 9.5, 11.5)) for size in sizes]
    # Pixels of few values, so that many means are exactly between two integers.
    cases += [(image // 128 * 3, data, face) for image, data, face in cases]
    assert javascript_lines(cases, tmp_path) == [python_line(*case) for case in cases]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_hundreds_of_sizes(seed, tmp_path):
    rng = np.random.default_rng([2, seed])
    cases = [random_case(rng, 1500) for _ in range(120)]
    expected = [python_line(*case) for case in cases]
    actual = javascript_lines(cases, tmp_path)
    wrong = [(case[0].shape, case[1]) for case, a, b in zip(cases, actual, expected, strict=True) if a != b]
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000), (4032, 3024), (3999, 3001)])
def test_twelve_megapixels(size, tmp_path):
    rng = np.random.default_rng(3)
    image = cv2.GaussianBlur(rng.integers(0, 256, (*size, 3), np.uint8), (0, 0), 1.0)
    face = (size[1] * 0.31, size[0] * 0.2, size[1] * 0.37, size[0] * 0.41)
    cases = [(image, Data(crop=crop, image_size=(224, 168)), face) for crop in CROPS]
    assert javascript_lines(cases, tmp_path) == [python_line(*case) for case in cases]
