"""Kinds of photos that a viewer shows: the pixels are compared with Pillow's, whole and shrunk while decoding."""

import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from conftest import ROOT  # noqa: F401  (sets the environment before cv2 is used)
from photo_kinds import (
    CMYK,
    DARK_GREY,
    DISPLAY_P3,
    HEIGHT,
    KINDS,
    MOVIE,
    WIDTH,
    exif,
    ink_profile,
    picture,
    png,
    saved,
    translucent,
)
from PIL import Image, ImageCms, ImageOps

from maskfold.data.decode import inspect_photo, photo_fault, read_photo
from maskfold.photos.jpeg_header import jpeg_size
from maskfold.photos.pixels import decode_png
from maskfold.photos.png_chunks import read_png

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


def packed(values: np.ndarray, bit_depth: int) -> np.ndarray:
    """Rows of bytes, uint8, of values with 1 to 16 bits, [H, W]."""
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(HEIGHT, WIDTH, 2), 2)[..., 16 - bit_depth :]
    return np.packbits(bits.reshape(HEIGHT, -1), 1)


@pytest.mark.parametrize("bit_depth", [1, 2, 4, 8, 16])
def test_the_transparent_value_of_a_grey_png(tmp_path, bit_depth):
    """Pillow stretches the values to 8 bits, but not the transparent one, so it cannot be compared."""
    values = np.asarray(picture().convert("L")).astype(int) * 257 >> 16 - bit_depth
    transparent = values[40, 20]
    content = png(packed(values, bit_depth), bit_depth, 0, (b"tRNS", int(transparent).to_bytes(2)))
    grey = values >> 8 if bit_depth == 16 else values * (255 // (2**bit_depth - 1))
    expected = np.where(values == transparent, 255, grey)
    assert 0 < (values == transparent).mean() < 1
    assert (grey[values == transparent] < 200).all()
    assert np.array_equal(read(tmp_path, content), np.repeat(expected[..., None], 3, 2))


def test_the_transparent_colour_of_a_16_bit_png(tmp_path):
    """The colour of all pixels but one differs from it in the lower bits only."""
    values = np.full((HEIGHT, WIDTH, 3), 0x4001, ">u2")
    values[3, 5] = 0x4002
    content = png(values.view(np.uint8).reshape(HEIGHT, -1), 16, 2, (b"tRNS", values[3, 5].tobytes()))
    expected = np.full((HEIGHT, WIDTH, 3), 0x40)
    expected[3, 5] = 255
    assert np.array_equal(read(tmp_path, content), expected)


@pytest.mark.parametrize("broken", [b"", b"\0", bytes(5), bytes(300)])
def test_a_broken_transparent_colour_is_ignored(tmp_path, broken):
    palette = b"PLTE", bytes(range(256)) * 3
    grey = np.asarray(picture().convert("L"))
    for rows, color_type, chunks in (
        (grey, 0, [(b"tRNS", broken)]),
        (np.asarray(picture()).reshape(HEIGHT, -1), 2, [(b"tRNS", broken)]),
        (grey, 3, [(b"tRNS", broken), palette]),
    ):
        whole = [chunk for chunk in chunks if chunk[0] != b"tRNS"]
        content = png(rows, 8, color_type, *chunks)
        assert np.array_equal(read(tmp_path, content), read(tmp_path, png(rows, 8, color_type, *whole)))


BROKEN_EXIF = (b"", b"MM\0*", b"MM\0+", b"II*\0\0\0", b"MM\0+\0\x08\0\0", b"MM\0*\0\0\0\x08\0\x02\x01\x12", b"junk" * 9)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("broken", BROKEN_EXIF)
def test_broken_exif_data_is_ignored(tmp_path, broken):
    rows = np.asarray(translucent()).reshape(HEIGHT, -1)
    plain = read(tmp_path, png(rows, 8, 6))
    assert np.array_equal(read(tmp_path, png(rows, 8, 6, (b"eXIf", broken))), plain)
    for profile in (None, ink_profile()):
        plain = read(tmp_path, saved(CMYK, icc_profile=profile))
        assert np.array_equal(read(tmp_path, saved(CMYK, icc_profile=profile, exif=b"Exif\0\0" + broken)), plain)


@pytest.mark.parametrize("method", ["getexif", "load", "draft"])
@pytest.mark.parametrize("error", [TypeError, KeyError, struct.error, ZeroDivisionError])
def test_no_error_of_pillow_escapes(tmp_path, monkeypatch, method, error):
    """Its decoders raised these in several releases."""

    def fail(*args: object, **options: object) -> None:
        raise error("of a decoder")

    monkeypatch.setattr(
        f"PIL.{'JpegImagePlugin.JpegImageFile' if method != 'getexif' else 'Image.Image'}.{method}", fail
    )
    monkeypatch.setattr("PIL.Image.Exif.load", fail)
    for content in (saved(CMYK, icc_profile=ink_profile()), saved(translucent(), "PNG")):
        assert photo_fault(content) is None
        assert read(tmp_path, content).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("size", [(6, 80), (80, 6), (1, 1)])
@pytest.mark.parametrize("reduced", [1, 2, 8])
def test_a_narrow_photo_with_a_profile_of_inks(tmp_path, size, reduced):
    """A side of less than 8 pixels is not shrunk to nothing."""
    content = saved(CMYK.resize(size), icc_profile=ink_profile())
    width, height = (-(-side // reduced) for side in size)
    assert photo_fault(content) is None
    assert read(tmp_path, content, reduced).shape == (height, width, 3)


def test_a_transparent_png_of_more_pixels_than_memory_is_refused_before_it_is_decoded():
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 6_000, 6_000, 1, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(6_000 * 751), 9))
    end = chunk(b"IEND", b"")
    assert photo_fault(b"\x89PNG\r\n\x1a\n" + header + rows + end) is None
    assert "pixels" in photo_fault(b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", b"\0\0") + rows + end)


def test_decoding_a_transparent_png_takes_little_memory(tmp_path):
    size, path = (800, 600), tmp_path / "a.png"
    for image in (translucent(), translucent().convert("LA")):
        image.resize(size).save(path, "PNG", exif=exif(6))
        content = path.read_bytes()
        header, _ = read_png(content)
        decode_png(content, header)
        tracemalloc.start()
        decode_png(content, header)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 18 * size[0] * size[1]


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
    "a video (MP4), not a photo; replace the photo": [MOVIE],
    "a video (AVI), not a photo; replace the photo": [b"RIFF\x10\0\0\0AVI LIST"],
    "web page": [b"<!DOCTYPE html><title>404</title>", b"\xef\xbb\xbf\n <html>", b"<?xml version='1.0'?><Error/>"],
    "Git LFS": [b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"],
    "text": [b"no such photo"],
    "empty": [b""],
    "zero": [bytes(3000)],
    "JPEG or PNG": [b"\x07\x01\xf3" * 100, b"\xff\xd8stray" + saved(picture())[2:]],
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
