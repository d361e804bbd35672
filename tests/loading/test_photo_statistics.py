"""Photo statistics follow what is done to a photo."""

import cv2
import numpy as np
import pytest

from maskfold.data.decode import read_photo
from maskfold.loading import photo_statistics as photo_statistics_module
from maskfold.loading.photo_statistics import MEANINGS, STATISTICS, photo_statistics, statistics_of_file


@pytest.fixture(scope="module")
def photo():
    """A picture with structure at all scales, RGB uint8 [160, 120, 3]."""
    rng = np.random.default_rng(0)
    image = np.full((160, 120, 3), 120, np.float32)
    for side in (3, 10, 40):
        noise = rng.normal(0, 18, (160 // side + 1, 120 // side + 1, 3)).astype(np.float32)
        image += cv2.resize(noise, (120, 160), interpolation=cv2.INTER_LINEAR)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def encoded(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


# Change -> statistics that become larger, and smaller.
CHANGES = {
    "blurred": (
        lambda x: cv2.GaussianBlur(x, (0, 0), 1),
        (),
        ("detail_across", "detail_down", "detail_half", "noise", "red_detail"),
    ),
    "quality 30": (lambda x: encoded(x, 30), ("jpeg_blocks",), ("blue_detail", "red_detail")),
    "darker": (lambda x: x // 2, (), ("brightness", "contrast")),
    "redder": (lambda x: (x * np.array([1, 0.8, 0.8])).astype(np.uint8), ("red",), ()),
    "bluer": (lambda x: (x * np.array([0.8, 0.8, 1])).astype(np.uint8), ("blue",), ()),
    "grey": (lambda x: x.mean(2, keepdims=True).repeat(3, 2).astype(np.uint8), (), ("red_range", "blue_range")),
    "cut": (lambda x: x[:80], ("aspect",), ("area",)),
    "lamp": (lambda x: (x * np.linspace(1, 0.5, len(x))[:, None, None]).astype(np.uint8), ("light_from_above",), ()),
    "noise": (
        lambda x: np.clip(x + np.random.default_rng(1).normal(0, 9, x.shape), 0, 255).astype(np.uint8),
        ("noise",),
        (),
    ),
    "half": (
        lambda x: cv2.resize(cv2.resize(x, None, fx=0.5, fy=0.5), x.shape[1::-1]),
        (),
        ("detail_across", "detail_half"),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_statistics_follow_a_change(photo, name):
    change, larger, smaller = CHANGES[name]
    before, after = (dict(zip(STATISTICS, photo_statistics(x), strict=True)) for x in (photo, change(photo)))
    for statistic in larger:
        assert after[statistic] > before[statistic] + 0.1, statistic
    for statistic in smaller:
        assert after[statistic] < before[statistic] - 0.1, statistic


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (8, 8), (9, 9), (17, 3)])
def test_photos_of_any_size_have_finite_statistics(shape):
    for image in (
        np.zeros((*shape, 3), np.uint8),
        np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8),
    ):
        statistics = photo_statistics(image)
        assert statistics.shape == (len(MEANINGS),)
        assert np.isfinite(statistics).all()


LARGE = {2: (1800, 2400), 4: (3200, 4200), 8: (6200, 8200)}


@pytest.mark.parametrize("reduced", [2, 4, pytest.param(8, marks=pytest.mark.slow)])
def test_jpeg_blocks_are_found_in_large_photos(photo, tmp_path, reduced):
    """Unless they are shrunk by 8, to one pixel."""
    large, column = cv2.resize(photo, LARGE[reduced], interpolation=cv2.INTER_CUBIC), STATISTICS.index("jpeg_blocks")
    blocks = []
    for quality in (95, 10):
        path = tmp_path / f"{quality}.jpg"
        cv2.imwrite(str(path), large, [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert read_photo(path, photo_statistics_module._reduction).reduced == reduced
        blocks.append(statistics_of_file(path)[column])
    if reduced == 8:
        assert blocks == [0, 0]
    else:
        assert blocks[1] > blocks[0] + 0.3


@pytest.mark.parametrize("reduced", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_png_has_the_statistics_of_a_jpeg_with_the_same_pixels(photo, tmp_path, reduced):
    """At any size: JPEGs are shrunk while decoding, PNGs afterwards."""
    large = photo if reduced == 1 else cv2.resize(photo, LARGE[reduced], interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(1).normal(0, 12, large.shape).astype(np.float32)
    large = np.clip(large + cv2.GaussianBlur(noise, (0, 0), 1), 0, 255).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.jpg"), large, [cv2.IMWRITE_JPEG_QUALITY, 92])
    cv2.imwrite(str(tmp_path / "a.png"), cv2.imread(str(tmp_path / "a.jpg")), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    jpeg, png = (
        dict(zip(STATISTICS, statistics_of_file(tmp_path / f"a.{end}"), strict=True)) for end in ("jpg", "png")
    )
    grey_levels = [name for name in STATISTICS if name.startswith("light") or name in ("brightness", "contrast")]
    for name in STATISTICS:
        assert png[name] == pytest.approx(jpeg[name], abs=0.7 if name in grey_levels else 0.08), name


def test_a_large_photo_is_shrunk_while_it_is_decoded(photo, tmp_path):
    large = cv2.resize(photo, (2100, 2800))
    cv2.imwrite(str(tmp_path / "large.jpg"), large[..., ::-1])
    shrunk, whole = statistics_of_file(tmp_path / "large.jpg"), photo_statistics(large)
    columns = [STATISTICS.index(name) for name in ("area", "aspect", "brightness", "contrast", "red")]
    np.testing.assert_allclose(shrunk[columns], whole[columns], atol=0.5)
    assert shrunk[0] == pytest.approx(whole[0], abs=0.01)
