"""The page in Chromium, opened from a file, without a network: the results of Python."""

import base64
import hashlib
import json
import re

import cv2
import numpy as np
import pytest
from photo_kinds import DISPLAY_P3, KINDS, exif
from PIL import Image
from tiny_page import chromium, expected_probs, face_photo, open_page, png_bytes, tiny_page_model

from maskfold.data.decode import read_photo
from maskfold.export.browser_page import write_page
from maskfold.labels import decode_label
from maskfold.loading.crops import CROPS
from maskfold.loading.stored_photo import stored_pixels
from maskfold.loading.transforms import EvalTransform

pytestmark = pytest.mark.slow

CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
# Kinds of photos that Chromium decodes to other pixels than photos/pixels.py, and the largest difference: pixels are
# converted from a colour profile by another library, or from CMYK.
MAX_DIFFERENCE = {"Display P3, translucent": 4, "inks": 16, "inks, orientation 6": 16}
CONVERTED = ("Display P3", "grey profile", "CMYK", "inks")
# Decode a file in the page -> [height, width, base64 of the RGB pixels].
DECODE = """async (content) => {
  const { filePixels } = await import("photo_pixels");
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const { data, width, height } = await filePixels(new File([bytes], "photo"), 2);
  let text = "";
  for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
  return [height, width, btoa(text)];
}"""


@pytest.fixture(scope="module")
def browser():
    with chromium(*CAMERA) as browser:
        yield browser


@pytest.fixture(scope="module")
def page_of(browser, tmp_path_factory):
    """page_of(crop) -> (the model, its open page)."""
    folder, pages = tmp_path_factory.mktemp("앱 pages"), {}

    def page(crop: str):
        if crop not in pages:
            model = tiny_page_model(crop)
            write_page(folder / f"{crop} #1.html", model)
            pages[crop] = model, open_page(browser, folder / f"{crop} #1.html")
        return pages[crop]

    return page


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos with a face: JPEG, progressive, PNG with alpha, EXIF-rotated, tiny, and of 12 megapixels."""
    folder, image = tmp_path_factory.mktemp("사진 photos"), Image.fromarray(face_photo(5))
    image.save(folder / "plain.jpg", quality=90)
    image.save(folder / "progressive.jpg", quality=80, progressive=True, subsampling=2)
    alpha = np.tile(np.linspace(90, 255, image.width).astype(np.uint8), (image.height, 1))
    image.putalpha(Image.fromarray(alpha))
    image.save(folder / "alpha.png")
    image = image.convert("RGB")
    for orientation, turn in (
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (7, Image.Transpose.TRANSVERSE),
    ):
        image.transpose(turn).save(folder / f"exif {orientation}.jpg", exif=exif(orientation), quality=90)
    image.resize((24, 32)).save(folder / "tiny.png")
    image.resize((3000, 4000), Image.Resampling.BICUBIC).save(folder / "12 megapixels.jpg", quality=90)
    return sorted(folder.iterdir())


def python_input(path, model) -> np.ndarray:
    """The input of a fully decoded photo, uint8 [H, W, 3]."""
    return EvalTransform(model.data)(stored_pixels(read_photo(path, check_damage=True).image, model.data)[0])


@pytest.mark.parametrize("crop", list(CROPS))
def test_photos_give_the_results_of_python(page_of, photos, crop):
    model, page = page_of(crop)
    assert "Self-test passed" in page.text("#state")
    cards = page.classify(*photos)
    names = ["worn correctly", "worn incorrectly", "not worn"]
    for path, card in zip(photos, cards, strict=True):
        pixels = python_input(path, model)
        assert card.get_attribute("data-input-sha256") == hashlib.sha256(pixels.tobytes()).hexdigest(), path
        [expected] = expected_probs(model, pixels[None])
        probs = json.loads(card.get_attribute("data-probs"))
        assert np.abs(np.array(probs) - expected).max() < 1e-5, path
        mask, gender, _ = decode_label(expected.argmax())
        assert f"{names[mask]}, {('male', 'female')[gender]}" in card.query_selector(".best").inner_text()
        values = [int(value) for value in re.findall(r"(\d+) %", card.query_selector(".bars").inner_text())]
        assert np.abs(np.array(values[:3]) - 100 * expected.reshape(3, 6).sum(1)).max() <= 0.51
    assert page.complaints == []


def test_every_kind_of_photo_is_decoded_as_by_python(page_of, tmp_path):
    _, page = page_of("none")
    for name, content in KINDS.items():
        path = tmp_path / "photo"
        path.write_bytes(content)
        expected = read_photo(path).image
        height, width, pixels = page.page.evaluate(DECODE, base64.b64encode(content).decode())
        actual = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 3)
        assert actual.shape == expected.shape, name
        limit = MAX_DIFFERENCE.get(name, 1 if name.startswith(CONVERTED) else 0)
        assert np.abs(actual.astype(int) - expected).max() <= limit, name


def test_display_p3_is_converted(page_of, tmp_path):
    """The probabilities are much closer to those of the photo that Python converts than without the profile."""
    model, page = page_of("none")
    image = Image.fromarray(face_photo(5))
    image.save(tmp_path / "p3.png", icc_profile=DISPLAY_P3)
    image.save(tmp_path / "plain.png")
    with_profile, without = (
        np.array(json.loads(card.get_attribute("data-probs")))
        for card in page.classify(tmp_path / "p3.png", tmp_path / "plain.png")
    )
    [expected] = expected_probs(model, python_input(tmp_path / "p3.png", model)[None])
    assert 10 * np.abs(with_profile - expected).max() < np.abs(without - expected).max()


def test_sentences_about_photos(page_of, tmp_path):
    _, page = page_of("none")
    image = face_photo(5)
    (tmp_path / "two.png").write_bytes(png_bytes(np.hstack([image, image[:, ::-1]])))
    (tmp_path / "noise.png").write_bytes(png_bytes(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)))
    (tmp_path / "tiny.png").write_bytes(png_bytes(image[::16, ::16]))
    # The face has some 10 pixels of 64 in the input.
    far = np.full((1600, 1200, 3), 128, np.uint8)
    far[600:1000, 450:750] = cv2.resize(image, (300, 400), interpolation=cv2.INTER_AREA)
    (tmp_path / "far.png").write_bytes(png_bytes(far))
    content = cv2.imencode(".jpg", image)[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("not a photo")
    (tmp_path / "empty.jpg").touch()
    sentences = {
        "two.png": "2 faces were found",
        "noise.png": "No face was found",
        "tiny.png": "The photo is very small",
        "far.png": "The face is very small",
        "cut.jpg": "cannot be read as a photo",
        "text.jpg": "cannot be read as a photo",
        "empty.jpg": "cannot be read as a photo",
    }
    for card, (name, sentence) in zip(
        page.classify(*(tmp_path / name for name in sentences)), sentences.items(), strict=True
    ):
        assert name in card.inner_text()
        assert sentence in card.inner_text()
    assert page.complaints == []


@pytest.mark.parametrize("crop", ["center", "face"])
def test_the_camera(page_of, photos, crop):
    model, page = page_of(crop)
    page.page.click("#camera")
    page.until(lambda: int(page.page.get_attribute("#camera-result", "data-count") or 0) > 2)
    page.until(lambda: "pictures per second" in page.text("#live"))
    probs = json.loads(page.page.get_attribute("#camera-result", "data-probs"))
    assert sum(probs) == pytest.approx(1, abs=1e-4)
    assert ("inside the frame" in page.text("#camera-state")) == (crop == "center")
    # The overlay is dark outside the 3:4 frame, and transparent inside it and without a frame.
    row = page.page.evaluate(
        "[...document.querySelector('#overlay').getContext('2d').getImageData(0, 100, 640, 1).data]"
    )
    assert (row[4 * 20 + 3] > 0) == (crop == "center")
    assert row[4 * 320 + 3] == 0
    # A photo can be classified while the camera is on.
    [card] = page.classify(photos[-1])
    pixels = python_input(photos[-1], model)
    probs = json.loads(card.get_attribute("data-probs"))
    assert np.abs(np.array(probs) - expected_probs(model, pixels[None])[0]).max() < 1e-5
    page.page.click("#camera")
    page.until(lambda: not page.page.is_visible("#live"))
    count = page.page.get_attribute("#camera-result", "data-count")
    page.page.wait_for_timeout(500)
    assert page.page.get_attribute("#camera-result", "data-count") == count
    assert page.complaints == []


def test_a_device_that_computes_other_numbers(browser, tmp_path):
    """The self-test fails if a probability, or a pixel of the preprocessed photo, is not as expected."""
    model = tiny_page_model("none")
    row, source = model.check["inputs"][0], model.check["sources"][0]
    changed = {
        "probs": {"inputs": [row | {"probs": [row["probs"][0] + 0.001, *row["probs"][1:]]}]},
        "photos": {"sources": [source | {"probs": source["probs"][::-1]}]},
        "pixels": {"sources": [source | {"input_sha256": "0" * 64}]},
        "nothing": {},
    }
    for name, change in changed.items():
        model.check.update(tiny_page_model("none").check | change)
        write_page(tmp_path / f"{name}.html", model)
        page = open_page(browser, tmp_path / f"{name}.html")
        assert ("Self-test failed" in page.text("#state")) == (name != "nothing"), name
        page.page.close()


def test_languages_and_keyboard(browser, page_of, photos, tmp_path):
    """Korean in a Korean browser; the switch and an example work from the keyboard; nothing is wider than 360 px."""
    model, _ = page_of("face")
    write_page(tmp_path / "app.html", model)
    page = open_page(browser, tmp_path / "app.html", locale="ko-KR", viewport={"width": 360, "height": 700})
    assert page.page.get_attribute("html", "lang") == "ko"
    assert "자체 점검 통과" in page.text("#state")
    page.page.focus("#examples button")
    page.page.keyboard.press("Enter")
    page.until(lambda: page.page.query_selector(".card[data-done] .best") is not None)
    assert "마스크" in page.text(".card .best")
    page.page.focus("[data-language=en]")
    page.page.keyboard.press("Enter")
    assert page.page.get_attribute("html", "lang") == "en"
    assert "mask" in page.text(".card .best")
    assert not re.search("[가-힣]", page.text("main"))
    page.page.click("#camera")
    page.until(lambda: "pictures per second" in page.text("#live"))
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.complaints == []


def test_controls_have_names(page_of):
    """Every control and picture has a text for screen readers, and changes are announced."""
    _, page = page_of("none")
    nameless = """[...document.querySelectorAll("button, input, canvas, progress, summary")].filter((each) =>
      !each.textContent.trim() && !each.getAttribute("aria-label") && !each.getAttribute("aria-labelledby") && !each.labels?.length)
      .map((each) => each.outerHTML)"""
    assert page.page.evaluate(nameless) == []
    assert len(page.page.query_selector_all("[role=status]")) == 3
