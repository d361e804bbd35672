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
from maskfold.photos.jpeg_header import SCAN, find_data_end, iter_segments, read_jpeg_header
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


def with_stray_bytes(content: bytes, stray: bytes) -> bytes:
    """The bytes between the segments of the header, as the Logitech C270 and some phones write them."""
    header = read_jpeg_header(content)
    parts = [content[start - 4 : end] for _, start, end in header.segments]
    return content[:2] + stray.join(parts) + content[header.scan_start :]


def with_unknown_version(content: bytes) -> bytes:
    assert content[6:11] == b"JFIF\0"
    return content[:11] + b"\x07" + content[12:]


def with_scan_values(content: bytes) -> bytes:
    """The values of a sequential scan that a decoder ignores, as some encoders write them."""
    header = read_jpeg_header(content)
    return content[: header.scan_start - 3] + bytes(3) + content[header.scan_start :]


ODD_HEADERS = {
    "stray bytes": lambda content: with_stray_bytes(content, b"stray"),
    "stray zeros": lambda content: with_stray_bytes(content, bytes(3)),
    "stray bytes with 0xFF": lambda content: with_stray_bytes(content, b"\xff\0\xe1\xff"),
    "unknown JFIF version": with_unknown_version,
    "values of the scan": with_scan_values,
    "stray bytes and an unknown version": lambda content: with_stray_bytes(with_unknown_version(content), b"\0\xe1"),
}


# A decoder needs the values of a progressive scan.
CASES = [(odd, options) for odd in ODD_HEADERS for options in ENCODINGS]
CASES.remove(("values of the scan", {"progressive": True}))


@pytest.mark.parametrize(("odd", "options"), CASES, ids=str)
def test_warnings_that_do_not_concern_the_picture_hide_no_damage(odd, options, tmp_path):
    """A decoder gives the text of its first warning only."""
    content, path = ODD_HEADERS[odd](photo(**options)), tmp_path / "a.jpg"
    assert photo_fault(content) is None
    path.write_bytes(content)
    plain = cv2.imdecode(np.frombuffer(photo(**options), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(read_photo(path).image, plain)
    first, last = data_range(content)
    middle = (first + last) // 2
    for damaged in (
        content[:middle] + bytes(200) + content[middle + 200 :],
        content[:middle] + content[middle + 200 :],
    ):
        assert "inside" in photo_fault(damaged)


def without_scans(content: bytes, keep: int) -> bytes:
    """The first scans of a JPEG, and an end marker."""
    ends = [find_data_end(content, end) for marker, _, end in iter_segments(content, 2) if marker == SCAN]
    assert len(ends) > keep
    return content[: ends[keep - 1]] + END


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_progressive_photo_without_its_last_scans_is_damaged(mode):
    """It is whole, but blurred; a decoder gives no warning."""
    out = io.BytesIO()
    Image.open(io.BytesIO(photo())).convert(mode).save(out, "JPEG", progressive=True)
    content = out.getvalue()
    assert photo_fault(content) is None
    for keep in range(1, 10 if mode == "RGB" else 6):
        assert "scans are missing" in photo_fault(without_scans(content, keep))


def three_scans() -> bytes:
    """A sequential JPEG with a scan for each component: its data is that of three grey JPEGs."""
    parts = []
    for channel in Image.open(io.BytesIO(photo(3))).convert("YCbCr").split():
        out = io.BytesIO()
        channel.save(out, "JPEG", quality=90)
        parts.append(out.getvalue())
    header = read_jpeg_header(parts[0])
    head, scans = [parts[0][:2]], []
    for marker, start, end in header.segments[:-1]:
        segment = parts[0][start - 4 : end]
        if marker == 0xC0:
            components = bytes((1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0))
            segment = b"\xff\xc0\0\x11" + segment[4:9] + b"\x03" + components
        head.append(segment)
    for number, part in enumerate(parts, 1):
        first, last = data_range(part)
        scans.append(b"\xff\xda\0\x08\x01" + bytes((number, 0, 0, 63, 0)) + part[first:last])
    return b"".join([*head, *scans, END])


def test_a_sequential_photo_without_a_scan_is_damaged(tmp_path):
    """It is whole, but grey or has wrong colours."""
    content, path = three_scans(), tmp_path / "a.jpg"
    path.write_bytes(content)
    assert photo_fault(content) is None
    difference = read_photo(path).image.astype(int) - np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.abs(difference).max() <= 1
    for keep in (1, 2):
        assert "scans are missing" in photo_fault(without_scans(content, keep))


# Bytes that look like restart markers, of which one has the number that is next in some photos.
MOVIE = (
    b"\0\0\0\x18ftypmp42"
    + b"".join(b"isom\xff" + bytes([0xD0 + n]) for n in range(8))
    + np.random.default_rng(5).bytes(20_000)
)
TRAILERS = {
    "nothing": b"",
    "half of the marker": b"\xff",
    "a movie": MOVIE,
    "a movie with an end marker in it": MOVIE + END + MOVIE,
    "a Samsung trailer": b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1527160000000" + MOVIE + b"SEFT",
    "zeros": bytes(5000),
    "a comment": b"\xff\xfe\0\x05abc" + END,
}


@pytest.mark.parametrize("trailer", TRAILERS.values(), ids=TRAILERS)
@pytest.mark.parametrize(
    "options",
    [*({"restart_marker_blocks": blocks} for blocks in (0, 1, 7, 79, 80, 81)), {"subsampling": "4:2:2"}],
    ids=str,
)
def test_a_photo_without_an_end_marker_is_read(tmp_path, trailer, options):
    path, whole = tmp_path / "a.jpg", photo(quality=95, **options)
    path.write_bytes(whole.removesuffix(END) + trailer)
    assert photo_fault(path.read_bytes()) is None
    plain = cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(read_photo(path, check_damage=True).image, plain)
    assert np.array_equal(read_photo(path).image, plain)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("options", ENCODINGS, ids=str)
def test_a_photo_whose_end_is_overwritten_is_truncated(keep, options):
    """Most of these have data enough for a decoder, and it gives no warning but that bytes are unused."""
    whole = photo(**options)
    first, last = data_range(whole)
    start = whole[: first + int(keep * (last - first))]
    other = photo(7, 98, **options)
    tails = (b"", bytes(50_000), b"some text " * 5_000, other[slice(*data_range(other))])
    assert ["truncated" in str(photo_fault(start + tail)) for tail in tails] == [True] * len(tails)


def test_a_progressive_photo_without_an_end_marker_is_truncated():
    """More scans may follow."""
    assert "truncated" in photo_fault(photo(progressive=True).removesuffix(END))


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
