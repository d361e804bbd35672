"""Photos of every kind that a viewer shows, each 80 x 48 pixels of one picture, and their parts."""

import io
import struct
import zlib

import numpy as np
import simplejpeg
from PIL import Image, ImageCms

# Whole blocks, so that shrunk photos can be compared pixel by pixel; other sizes are in benchmarks/damage.py.
HEIGHT, WIDTH = 80, 48


def picture() -> Image.Image:
    """A smooth picture in which each corner has another colour, so that every orientation shows."""
    y, x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j]
    return Image.fromarray(np.stack([255 * x, 255 * y, 255 * (1 - x) * (1 - y)], -1).round().astype(np.uint8))


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **({"quality": 92} if kind == "JPEG" else {}) | options)
    return out.getvalue()


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def icc(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A minimal ICC profile of version 2 (ICC.1:2001-04) with the given tags."""
    table, body, position = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", position + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(
        ">I4sI4s4s4s12s4s",
        position + len(body),
        b"lcms",
        0x02400000,
        b"prtr" if space == b"CMYK" else b"mntr",
        space,
        b"Lab " if space == b"CMYK" else b"XYZ ",
        bytes(12),
        b"acsp",
    )
    head += bytes(28) + xyz(0.9642, 1.0, 0.8249)[8:] + bytes(48)
    return head[:128] + struct.pack(">I", len(tags)) + table + body


GAMMA = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256))
# The primaries of Display P3, adapted to D50.
DISPLAY_P3 = icc(
    b"RGB ",
    {
        b"rXYZ": xyz(0.5151, 0.2412, -0.0011), b"gXYZ": xyz(0.2920, 0.6922, 0.0419), b"bXYZ": xyz(0.1571, 0.0666, 0.7841),
        b"rTRC": GAMMA, b"gTRC": GAMMA, b"bTRC": GAMMA, b"wtpt": xyz(0.9642, 1.0, 0.8249),
    },
)  # fmt: skip
DARK_GREY = icc(b"GRAY", {b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, 3 * 256), b"wtpt": xyz(0.9642, 1.0, 0.8249)})


def ink_profile() -> bytes:
    """CMYK -> Lab through a table (lut8) of the 16 combinations of inks; the darkest is not black."""
    nodes = bytearray()
    for number in range(16):
        c, m, y, k = (number >> 3 & 1, number >> 2 & 1, number >> 1 & 1, number & 1)
        light = max(0.1, 1 - 0.25 * (c + m + y) - 0.6 * k)
        nodes += bytes((round(255 * light), 128 + 40 * (m - c), 128 + 40 * (y - m)))
    identity = bytes(range(256))
    matrix = b"".join(struct.pack(">i", 65536 * (n in (0, 4, 8))) for n in range(9))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + identity * 4 + bytes(nodes) + identity * 3
    return icc(b"CMYK", {b"A2B0": lut, b"wtpt": xyz(0.9642, 1.0, 0.8249)})


def png(rows: np.ndarray, bit_depth: int, color_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of rows of bytes, uint8 [H, bytes per row], without filters."""
    height, width = HEIGHT, WIDTH
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bit_depth, color_type, 0, 0, 0)),
        *chunks,
        (b"IDAT", data),
    ]
    whole = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in [*parts, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + whole


def interlaced() -> bytes:
    """An interlaced (Adam7) RGB PNG; neither OpenCV nor Pillow writes one."""
    image, data = np.asarray(picture()), b""
    for y, x, dy, dx in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        part = image[y::dy, x::dx]
        data += b"".join(b"\0" + row.tobytes() for row in part) if part.size else b""
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 1)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def translucent() -> Image.Image:
    image = picture().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


MOVIE = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00isommp42" + np.random.default_rng(1).bytes(100_000)
MOVIE += b"\xff\xd9 \xff\xda \xff\xd8"
GREY_16 = (np.asarray(picture().convert("L")).astype(np.uint16) * 257).astype(">u2")
RGB_16 = (np.asarray(picture()).astype(np.uint16) * 257).astype(">u2")
GREY_2 = np.asarray(picture().convert("L")) >> 6
CMYK = picture().convert("CMYK")
KINDS = {
    "ordinary": saved(picture()),
    "motion photo": saved(picture()) + b"MotionPhoto_Data" + MOVIE,
    "trailing zeros": saved(picture()) + bytes(5000),
    "thumbnail in a header": saved(picture(), exif=exif(1)).replace(b"\xff\xe1", b"\xff\xe4\x00\x0a\xff\xd9\xff\xda\xff\xd8\x00\x01\xff\xe1", 1),
    "progressive": saved(picture(), progressive=True),
    "optimised tables": saved(picture(), optimize=True),
    "restart markers": saved(picture(), restart_marker_rows=1),
    **{f"subsampling {name}": saved(picture(), subsampling=name) for name in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")},
    "stored as RGB": saved(picture(), keep_rgb=True),
    "grey JPEG": saved(picture().convert("L")),
    "CMYK": saved(CMYK),
    "YCCK": simplejpeg.encode_jpeg(np.ascontiguousarray(np.asarray(CMYK)), 95, "CMYK", "444"),
    **{f"orientation {n}": saved(picture(), exif=exif(n)) for n in range(1, 9)},
    "orientation 6 of a PNG": saved(picture(), "PNG", exif=exif(6)),
    **{f"orientation {n}, translucent": saved(translucent(), "PNG", exif=exif(n)) for n in range(1, 9)},
    "Display P3": saved(picture(), icc_profile=DISPLAY_P3),
    "Display P3, orientation 8": saved(picture(), icc_profile=DISPLAY_P3, exif=exif(8)),
    "Display P3 of a PNG": saved(picture(), "PNG", icc_profile=DISPLAY_P3),
    "Display P3, translucent": saved(translucent(), "PNG", icc_profile=DISPLAY_P3),
    "sRGB": saved(picture(), icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
    "grey profile": saved(picture().convert("L"), icc_profile=DARK_GREY),
    "grey profile of a PNG": saved(picture().convert("L"), "PNG", icc_profile=DARK_GREY),
    "inks": saved(CMYK, icc_profile=ink_profile()),
    "inks, orientation 6": saved(CMYK, icc_profile=ink_profile(), exif=exif(6)),
    "1-bit PNG": saved(picture().convert("1"), "PNG"),
    "2-bit grey PNG": png(np.packbits(np.unpackbits(GREY_2[..., None], 2)[..., 6:].reshape(HEIGHT, -1), 1), 2, 0),
    "palette": saved(picture().quantize(200), "PNG"),
    "palette of 16": saved(picture().quantize(16), "PNG", bits=4),
    "transparent palette": saved(picture().quantize(200), "PNG", transparency=5),
    "transparent colour": saved(picture(), "PNG", transparency=picture().getpixel((0, 0))),
    "translucent": saved(translucent(), "PNG"),
    "translucent, orientation 6": saved(translucent(), "PNG", exif=exif(6)),
    "translucent grey": saved(translucent().convert("LA"), "PNG"),
    "16-bit RGB": png(RGB_16.view(np.uint8).reshape(HEIGHT, -1), 16, 2),
    "16-bit grey": png(GREY_16.view(np.uint8).reshape(HEIGHT, -1), 16, 0),
    "16-bit grey, one value transparent": png(GREY_16.view(np.uint8).reshape(HEIGHT, -1), 16, 0, (b"tRNS", GREY_16[9, 9].tobytes())),
    "16-bit RGBA": png(np.dstack([RGB_16, GREY_16]).astype(">u2").view(np.uint8).reshape(HEIGHT, -1), 16, 6),
    "interlaced": interlaced(),
    "bytes behind a PNG": saved(picture(), "PNG") + MOVIE,
}  # fmt: skip
