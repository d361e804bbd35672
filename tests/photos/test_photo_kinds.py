"""Kinds of photos that a viewer shows: the pixels are compared with Pillow's, whole and shrunk while decoding."""

import io
import struct

import cv2
import numpy as np
import pytest
from conftest import ROOT  # noqa: F401  (sets the environment before cv2 is used)
from photo_kinds import DARK_GREY, DISPLAY_P3, HEIGHT, KINDS, MOVIE, WIDTH, picture, saved
from PIL import Image, ImageCms, ImageOps

from maskfold.data.decode import inspect_photo, photo_fault, read_photo
from maskfold.photos.jpeg_header import jpeg_size

# Decoders may round differently; conversions between colour spaces add one level, and another one where the photo is
# shrunk before its colours are converted.
TOLERANCE = 2
# Mean difference, in levels, of a lossy JPEG shrunk by its decoder and one shrunk after it.
REDUCED_TOLERANCE = 4


def shown(content: bytes) -> np.ndarray:
    """What a viewer shows, by Pillow: upright, in sRGB, on white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        # Pillow cuts 16-bit grey at 255 when it converts it.
        values = np.asarray(image).astype(int)
        grey = (values / 257).round().astype(np.uint8)
        if "transparency" in image.info:
            grey[values == image.info["transparency"]] = 255
        return np.repeat(grey[..., None], 3, 2)
    if profile and image.mode in ("RGB", "L", "CMYK"):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        image = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    elif profile:
        source, alpha = ImageCms.ImageCmsProfile(io.BytesIO(profile)), image.getchannel("A")
        target = ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image.convert("RGB"), source, target, outputMode="RGB")
        image.putalpha(alpha)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def read(tmp_path, content: bytes, reduced: int = 1) -> np.ndarray:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    return read_photo(path, lambda size: reduced, check_damage=True).image


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_that_a_viewer_shows(tmp_path, kind):
    content, expected = KINDS[kind], shown(KINDS[kind])
    image = read(tmp_path, content)
    assert (image.dtype, image.shape) == (np.uint8, expected.shape)
    assert np.abs(image.astype(int) - expected).max() <= TOLERANCE
    assert inspect_photo(tmp_path / "photo.jpg")[1] is None


# Without 4:2:2: at 1/8 libjpeg repeats each colour sample, so the colours have half the resolution.
SHRUNK = [kind for kind in KINDS if KINDS[kind].startswith(b"\xff\xd8") and kind != "subsampling 4:2:2"]


@pytest.mark.parametrize("kind", SHRUNK)
@pytest.mark.parametrize("reduced", [2, 8])
def test_shrunk_photos_are_the_same_picture(tmp_path, kind, reduced):
    whole = shown(KINDS[kind])
    expected = cv2.resize(whole, (whole.shape[1] // reduced, whole.shape[0] // reduced), interpolation=cv2.INTER_AREA)
    image = read(tmp_path, KINDS[kind], reduced)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() <= REDUCED_TOLERANCE


def test_the_colours_of_the_profiles_matter():
    """Otherwise the comparison could not fail for photos with a profile."""
    for with_profile, without in (("Display P3", "ordinary"), ("inks", "CMYK"), ("grey profile", "grey JPEG")):
        assert np.abs(shown(KINDS[with_profile]).astype(int) - shown(KINDS[without])).max() > 20


def test_a_broken_profile_is_ignored(tmp_path):
    for profile in (DISPLAY_P3[:150], b"junk" * 50, DARK_GREY):
        content = saved(picture(), icc_profile=profile)
        assert photo_fault(content) is None
        assert np.array_equal(read(tmp_path, content), read(tmp_path, saved(picture())))


def test_ordinary_photos_have_the_pixels_of_opencv(synthetic, tmp_path):
    for path in sorted(synthetic.rglob("mask1.*"))[:4]:
        if not path.name.startswith("."):
            assert np.array_equal(read_photo(path).image, cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))


def test_size_in_the_header():
    assert jpeg_size(KINDS["thumbnail in a header"]) == (HEIGHT, WIDTH)


def ftyp(brand: bytes, *more: bytes) -> bytes:
    brands = brand + bytes(4) + b"".join(more)
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(50)


OTHER_FORMATS = {
    "HEIC": [ftyp(b"heic", b"mif1", b"heic"), ftyp(b"mif1", b"mif1", b"heic"), ftyp(b"heix")],
    "AVIF": [ftyp(b"avif"), ftyp(b"mif1", b"avif", b"mif1")],
    "WebP": [saved(picture(), "WEBP")],
    "GIF": [saved(picture(), "GIF")],
    "TIFF": [saved(picture(), "TIFF"), b"MM\0*" + bytes(20)],
    "BMP": [saved(picture(), "BMP")],
    "MP4": [MOVIE],
    "web page": [b"<!DOCTYPE html><title>404</title>", b"\xef\xbb\xbf\n <html>", b"<?xml version='1.0'?><Error/>"],
    "Git LFS": [b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"],
    "text": [b"no such photo"],
    "empty": [b""],
    "zero": [bytes(3000)],
    "JPEG or PNG": [b"\x07\x01\xf3" * 100],
}


@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_other_formats_are_named(name):
    for content in OTHER_FORMATS[name]:
        assert name in photo_fault(content)


def test_codings_that_few_programs_read_are_named():
    whole = saved(picture())
    start = whole.index(b"\xff\xc0")
    for marker, precision, word in ((0xC9, 8, "arithmetic"), (0xC3, 8, "lossless"), (0xC1, 12, "12 bits")):
        changed = (
            whole[: start + 1]
            + bytes([marker])
            + whole[start + 2 : start + 4]
            + bytes([precision])
            + whole[start + 5 :]
        )
        assert word in photo_fault(changed)
