"""Read the chunks of a PNG (ISO/IEC 15948): verify their checksums, and read the values that decoding depends on."""

import struct
import zlib
from dataclasses import dataclass

from maskfold.photos.file_kinds import PNG, REPLACE

GREYSCALE, COLOR, PALETTE, GREY_ALPHA, COLOR_ALPHA = 0, 2, 3, 4, 6
NUM_CHANNELS = {GREYSCALE: 1, COLOR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOR_ALPHA: 4}
# A larger picture may not fit into the memory of a small machine: decoding takes 3 bytes per pixel, or up to 18 with
# transparency.
MAX_PNG_PIXELS, MAX_TRANSPARENT_PIXELS = 2**27, 2**25
# zlib cannot compress data by more than this factor.
MAX_ZLIB_RATIO = 1032


@dataclass
class PngHeader:
    """Values that decide how a PNG is decoded.

    has_alpha: whether it has an alpha channel or a transparent colour; icc_profile: the colour profile, or None;
    transparent_grey: the transparent value of a grey picture, with bit_depth bits, or None; exif: the EXIF data.
    """

    height: int
    width: int
    bit_depth: int
    color_type: int
    has_alpha: bool
    icc_profile: bytes | None = None
    transparent_grey: int | None = None
    exif: bytes = b""

    @property
    def is_grey(self) -> bool:
        return self.color_type in (GREYSCALE, GREY_ALPHA)

    @property
    def num_bytes(self) -> int:
        """Size of the decompressed picture in bytes, including the filter byte of each row."""
        return self.height * (1 + (self.width * self.bit_depth * NUM_CHANNELS.get(self.color_type, 1) + 7) // 8)


def read_png(content: bytes) -> tuple[PngHeader | None, str | None]:
    """Check all chunks up to IEND. Return (header, fault). fault: what is wrong and what to do, or None."""
    header, has_data = None, False
    start = len(PNG)
    while start + 12 <= len(content):
        length, name = struct.unpack(">I4s", content[start : start + 8])
        end = start + 8 + length
        body, checksum = content[start + 4 : end], content[end : end + 4]
        if len(checksum) < 4:
            return header, f"is truncated; {REPLACE}"
        if zlib.crc32(body) != int.from_bytes(checksum):
            return header, f"is damaged (a checksum is wrong); {REPLACE}"
        if name == b"IHDR" and length == 13:
            width, height, bit_depth, color_type = struct.unpack(">IIBB", body[4:14])
            header = PngHeader(height, width, bit_depth, color_type, color_type in (GREY_ALPHA, COLOR_ALPHA))
        elif header is None:
            return None, f"is damaged (its header is missing); {REPLACE}"
        elif name == b"tRNS" and not has_data:
            header.has_alpha = True
            if header.color_type == GREYSCALE and length == 2:
                header.transparent_grey = int.from_bytes(body[4:6]) & ((1 << header.bit_depth) - 1)
        elif name == b"iCCP" and not has_data:
            header.icc_profile = _profile(body[4:])
        elif name == b"eXIf":
            header.exif = body[4:]
        elif name == b"IDAT":
            has_data = True
        elif name == b"IEND":
            return header, _size_fault(header, len(content))
        start = end + 4
    return header, f"is truncated; {REPLACE}"


def _size_fault(header: PngHeader, size: int) -> str | None:
    # This is checked before memory for the picture is allocated.
    pixels = header.height * header.width
    if not pixels or header.num_bytes > MAX_ZLIB_RATIO * size:
        return f"is damaged ({size:,} bytes cannot hold {header.width} x {header.height} pixels); {REPLACE}"
    if header.has_alpha and pixels > MAX_TRANSPARENT_PIXELS:
        return (
            f"has transparency and {pixels:,} pixels, more than {MAX_TRANSPARENT_PIXELS:,}; make it smaller, or remove "
            "the transparency"
        )
    if pixels > MAX_PNG_PIXELS:
        return f"has {pixels:,} pixels, more than {MAX_PNG_PIXELS:,}; make it smaller"
    return None


def _profile(chunk: bytes) -> bytes | None:
    """Decompress the profile in an iCCP chunk. The profile follows its name, a zero byte and the compression method."""
    _, _, compressed = chunk.partition(b"\0")
    try:
        # Profiles of displays and cameras have a few kilobytes; the limit keeps damaged data from filling the memory.
        return zlib.decompressobj().decompress(compressed[1:], 2**24) or None
    except zlib.error:
        return None
