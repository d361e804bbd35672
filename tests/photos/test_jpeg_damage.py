"""Damage inside photos, and photos that look suspicious but are intact."""

import io
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskfold.data.decode import photo_fault, read_photo
from maskfold.errors import UserError
from maskfold.photos.jpeg_header import read_jpeg_header
from maskfold.photos.png_chunks import read_png

END = b"\xff\xd9"


def photo(seed: int = 0, quality: int = 90, **options: object) -> bytes:
    """A JPEG of a picture with edges, a gradient and noise."""
    rng = np.random.default_rng(seed)
    image = np.mgrid[0:160, 0:128].sum(0)[..., None].repeat(3, 2) % 256
    image[40:120, 30:90] = rng.integers(0, 256, 3)
    out, noisy = io.BytesIO(), np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(out, "JPEG", quality=quality, **options)
    return out.getvalue()


def data_range(content: bytes) -> tuple[int, int]:
    start = read_jpeg_header(content).scan_start
    return start, content.index(END, start)


ENCODINGS = ({}, {"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1}, {"subsampling": "4:4:4"})


@pytest.mark.parametrize("options", ENCODINGS, ids=str)
@pytest.mark.parametrize("way", ["zeroed", "cut out", "random"])
def test_damage_inside_is_found(options, way):
    """Of 20 photos with a tenth of the data damaged, at least 19."""
    faults = []
    for seed in range(20):
        content, rng = photo(seed, 40 + 2 * seed, **options), np.random.default_rng(seed)
        first, last = data_range(content)
        size = (last - first) // 10
        start = int(rng.integers(first, last - size))
        middle = {"zeroed": bytes(size), "cut out": b"", "random": rng.bytes(size).replace(b"\xff", b"\0")}[way]
        assert photo_fault(content) is None
        faults.append(photo_fault(content[:start] + middle + content[start + size :]))
    assert sum(fault is not None for fault in faults) >= 19
    assert any("inside" in fault for fault in faults if fault)


def test_a_short_run_of_zeros_is_found():
    """Some of these decode to the right number of blocks, so that a decoder gives no warning."""
    content = photo()
    first, last = data_range(content)
    starts = np.linspace(first, last - 40, 30).astype(int)
    assert all(photo_fault(content[:start] + bytes(32) + content[start + 32 :]) for start in starts)


def test_flat_pictures_with_runs_of_zeros_are_intact():
    """With optimised tables the blocks of a flat picture are coded by zero bits."""
    for optimize in (True, False):
        for progressive in (True, False):
            out = io.BytesIO()
            Image.new("RGB", (800, 800), (200, 30, 90)).save(out, "JPEG", optimize=optimize, progressive=progressive)
            assert photo_fault(out.getvalue()) is None
    assert bytes(100) in out.getvalue() or bytes(100) in _flat_optimised()


def _flat_optimised() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (800, 800), (200, 30, 90)).save(out, "JPEG", optimize=True)
    return out.getvalue()


@pytest.mark.parametrize("padding", [1, 12, 300])
def test_zeros_before_the_end_marker_are_padding(padding):
    content = photo()
    _, last = data_range(content)
    assert photo_fault(content[:last] + bytes(padding) + content[last:]) is None
    if padding > 8:
        assert "inside" in photo_fault(content[:last] + b"\x5a" * padding + content[last:])
    # The same number of zeros in place of data.
    if padding > 12:
        assert photo_fault(content[: last - padding] + bytes(padding) + content[last:]) is not None


def test_warnings_that_do_not_concern_the_picture_are_ignored(tmp_path):
    content = photo()
    assert content[6:11] == b"JFIF\0"
    for changed in (content[:11] + b"\x07" + content[12:],):
        assert photo_fault(changed) is None


def test_unusual_subsampling_is_decoded():
    """simplejpeg refuses it; the file is a 4:4:4 JPEG whose header claims 3:1."""
    content = bytearray(photo(subsampling="4:4:4"))
    content[content.index(b"\xff\xc0") + 11] = 0x31
    assert photo_fault(bytes(content)) is None


def test_headers_that_claim_more_pixels_than_the_data_can_hold():
    content = bytearray(photo())
    start = content.index(b"\xff\xc0") + 5
    for size, words in ((b"\x30\0\x30\0", "cannot hold"), (b"\xff\xf0\xff\xf0", "pixels"), (bytes(4), "cannot hold")):
        content[start : start + 4] = size
        assert words in photo_fault(bytes(content))


def test_damage_is_found_only_where_it_is_asked_for(tmp_path):
    """Photos of a prepared folder were checked before; their hash shows whether they have changed."""
    content = photo()
    first, last = data_range(content)
    path = tmp_path / "a.jpg"
    path.write_bytes(content[: first + 300] + content[last:])
    assert read_photo(path).image.shape == (160, 128, 3)
    with pytest.raises(UserError, match=re.escape(str(path)) + ".*inside"):
        read_photo(path, check_damage=True)


PNG = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))[1].tobytes()


@given(st.integers(0, len(PNG) - 1), st.integers(1, 255))
def test_every_changed_byte_of_a_png_is_found(index, difference):
    changed = bytearray(PNG)
    changed[index] ^= difference
    assert photo_fault(bytes(changed)) is not None


def test_png_data_that_does_not_fill_the_picture(capfd):
    """Valid checksums, but the decompressed data is too short or its zlib stream is broken."""
    import struct
    import zlib

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 30, 40, 8, 2, 0, 0, 0))
    rows = zlib.compress(bytes(40 * 91))
    end = chunk(b"IEND", b"")
    signature = PNG[:8]
    assert photo_fault(signature + head + chunk(b"IDAT", rows) + end) is None
    for data in (zlib.compress(bytes(20 * 91)), rows[:-6], b"", bytes(30)):
        assert photo_fault(signature + head + chunk(b"IDAT", data) + end) is not None
    huge = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    assert "cannot hold" in photo_fault(signature + huge + chunk(b"IDAT", rows) + end)


@given(st.binary(max_size=200), st.sampled_from([b"\xff\xd8", b"\xff\xd8\xff\xc0\0\x11\x08", PNG[:8], PNG[:33], b""]))
def test_any_bytes_are_read_without_an_exception(junk, start):
    photo_fault(start + junk)
    read_png(start + junk)
    read_jpeg_header(start + junk)


@pytest.mark.parametrize("sampling", range(0, 256, 4))
def test_any_chroma_subsampling_is_shown_or_reported(tmp_path, sampling):
    """Of the first component: 0x14 is a subsampling for which simplejpeg has no name."""
    content, path = bytearray(photo()), tmp_path / "a.jpg"
    content[content.index(b"\xff\xc0") + 11] = sampling
    path.write_bytes(content)
    fault = photo_fault(bytes(content))
    if fault is None:
        assert read_photo(path).image.shape[2] == 3


def test_a_png_of_more_pixels_than_memory_is_refused_before_it_is_decoded():
    rows = zlib.compress(bytes(14_000 * (14_000 // 8 + 1)), 9)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 14_000, 14_000, 1, 0, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert photo_fault(content) == "has 196,000,000 pixels, more than 134,217,728; make it smaller"
