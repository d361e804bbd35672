"""Mutations of JPEG and PNG files: declared sizes, segments, chunks with valid checksums, EXIF data."""

import struct
import zlib
from functools import cache

from byte_mutations import Draw, mutate_bytes
from hypothesis import strategies as st

SIZES = (0, 1, 2, 7, 16, 255, 4096, 20_000, 30_000, 65_500, 65_535)
PNG_SIZES = (*SIZES, 100_000, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
PNG = b"\x89PNG\r\n\x1a\n"


def jpeg_segments(content: bytes) -> tuple[list[bytes], bytes]:
    """The segments of a JPEG up to its first scan, and the rest of the file."""
    segments, start = [], 2
    while start + 4 <= len(content) and content[start + 1] != 0xDA:
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4])
        segments.append(content[start:end])
        start = end
    return segments, content[start:]


def exif(draw: Draw) -> bytes:
    """EXIF data with an orientation, as TIFF or BigTIFF, of which some fields are wrong or the end is missing."""
    order, is_big = draw(st.sampled_from(("<", ">"))), draw(st.integers(0, 3)) == 0
    tag, kind = draw(st.sampled_from((0x0112, 0x8769, 0x0201))), draw(st.sampled_from((3, 4, 2, 7, 0, 99)))
    count = draw(st.sampled_from((1, 1, 0, 2, 2**32 - 1)))
    value = draw(st.integers(0, 9) | st.just(65_535))
    entries = draw(st.sampled_from((1, 1, 0, 2, 65_535)))
    start = draw(st.sampled_from((16 if is_big else 8,) * 2 + (0, 7, 2**31, 2**32 - 1)))
    name = draw(st.sampled_from((b"II" if order == "<" else b"MM",) * 3 + (b"XX",)))
    if is_big:
        # A header with the width of offsets, 8 bytes; counts, values and offsets have 8 bytes.
        width = draw(st.sampled_from((8, 8, 0, 4, 65_535)))
        data = struct.pack(f"{order}HHHQ", 43, width, 0, start)
        data += struct.pack(f"{order}QHHQHHIQ", entries, tag, kind, count, value, 0, 0, 0)
    else:
        data = struct.pack(f"{order}HI", 42, start) + struct.pack(
            f"{order}HHHIHHI", entries, tag, kind, count, value, 0, 0
        )
    whole = name + data
    return whole[: draw(st.sampled_from((len(whole),) * 4 + (0, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 20)))]


def segment(marker: int, body: bytes, length: int | None = None) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2 if length is None else length).to_bytes(2) + body


def mutate_jpeg(draw: Draw, content: bytes) -> bytes:
    segments, scan = jpeg_segments(content)
    for _ in range(draw(st.sampled_from((1, 1, 2, 3)))):
        index = draw(st.integers(0, max(0, len(segments) - 1)))
        one = segments[index] if segments else segment(0xFE, b"x")
        frames = [n for n, each in enumerate(segments) if 0xC0 <= each[1] <= 0xCF and each[1] not in (0xC4, 0xC8, 0xCC)]
        kinds = (
            "size",
            "size",
            "frame",
            "length",
            "delete",
            "double",
            "exif",
            "restart",
            "insert",
            "scan",
            "tail",
            "table",
            "bytes",
        )
        kind = draw(st.sampled_from(kinds))
        if kind in ("size", "frame") and frames:
            frame = bytearray(segments[frames[0]])
            if kind == "size":
                frame[5:9] = struct.pack(">HH", draw(st.sampled_from(SIZES)), draw(st.sampled_from(SIZES)))
            else:
                place = draw(st.sampled_from((1, 4, 9, 11, 12, 14)))
                value = draw(
                    st.sampled_from((0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA)) if place == 1 else st.integers(0, 255)
                )
                frame[min(place, len(frame) - 1)] = value
            segments[frames[0]] = bytes(frame)
        elif kind == "length" and segments:
            segments[index] = one[:2] + draw(st.sampled_from((0, 1, 2, 3, 40, 65_535))).to_bytes(2) + one[4:]
        elif kind == "delete" and segments:
            del segments[index]
        elif kind == "double":
            segments[index:index] = [one] * draw(st.sampled_from((1, 3, 1000)))
        elif kind == "exif":
            segments.insert(0, segment(0xE1, b"Exif\0\0" + exif(draw)))
        elif kind == "restart":
            segments.append(segment(0xDD, draw(st.sampled_from((0, 1, 2, 65_535))).to_bytes(2)))
        elif kind == "insert":
            body = draw(
                st.sampled_from(
                    (b"", b"Adobe\0d\0\0\0\0\0\2", b"JFIF\0", b"ICC_PROFILE\0\1\1" + b"\xff" * 200, content[:200])
                )
            )
            segments.insert(
                index, segment(draw(st.sampled_from((0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xC8, 0xD8, 0x01))), body)
            )
        elif kind == "table" and segments:
            segments[index] = one[:4] + bytes(draw(st.binary(min_size=1, max_size=len(one) or 1)))[: len(one)]
        elif kind == "bytes" and segments:
            # The length of the segment follows its content.
            segments[index] = segment(one[1], mutate_bytes(draw, one[4:], [one[4:]])[:65_533])
        elif kind == "scan":
            start = draw(st.integers(0, len(scan)))
            rest = draw(
                st.sampled_from((b"", scan[start + 50 :], b"\0" * 300 + scan[start:], b"\xff\xd3" + scan[start:], scan))
            )
            scan = scan[:start] + rest
        elif kind == "tail":
            scan += draw(
                st.sampled_from((b"\xff\xd9", b"\0" * 100, content, b"\xff\xd8\xff\xd9", b"ftypmp4" * 99, PNG))
            )
    return b"\xff\xd8" + b"".join(segments) + scan


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """(name, data) of the chunks of a PNG."""
    chunks, start = [], len(PNG)
    while start + 12 <= len(content):
        length, name = struct.unpack(">I4s", content[start : start + 8])
        chunks.append((name, content[start + 8 : start + 8 + length]))
        start += length + 12
    return chunks


@cache
def packed_zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(megabytes)) + packer.flush()


def _changed_rows(draw: Draw, data: bytes) -> bytes:
    """Packed rows of pixels and filter bytes, changed and packed again; unchanged if they cannot be unpacked."""
    try:
        rows = zlib.decompressobj().decompress(data, 2**20)
    except zlib.error:
        return data
    return zlib.compress(mutate_bytes(draw, rows, [rows]))


def mutate_png(draw: Draw, content: bytes) -> bytes:
    chunks = png_chunks(content)
    for _ in range(draw(st.sampled_from((1, 1, 2, 3)))):
        index = draw(st.integers(0, max(0, len(chunks) - 1)))
        kinds = (
            "size",
            "size",
            "header",
            "delete",
            "double",
            "insert",
            "bomb",
            "data",
            "move",
            "name",
            "bytes",
            "bytes",
            "rows",
        )
        kind = draw(st.sampled_from(kinds))
        name, data = chunks[index] if chunks else (b"IHDR", b"")
        if kind in ("size", "header") and chunks and len(chunks[0][1]) == 13:
            header = bytearray(chunks[0][1])
            if kind == "size":
                header[:8] = struct.pack(">II", draw(st.sampled_from(PNG_SIZES)), draw(st.sampled_from(PNG_SIZES)))
            else:
                header[draw(st.integers(8, 12))] = draw(st.sampled_from((0, 1, 2, 3, 4, 6, 8, 16, 255)))
            chunks[0] = chunks[0][0], bytes(header)
        elif kind == "delete" and chunks:
            del chunks[index]
        elif kind == "double":
            chunks[index:index] = [(name, data)] * draw(st.sampled_from((1, 3, 1000)))
        elif kind == "insert":
            new = draw(
                st.sampled_from(
                    (b"eXIf", b"tRNS", b"PLTE", b"iCCP", b"gAMA", b"acTL", b"fcTL", b"zTXt", b"abcd", b"\0\0\0\0")
                )
            )
            bodies = (
                b"",
                b"x\0\0" + packed_zeros(64),
                exif(draw),
                b"\0" * 768,
                b"\xff" * 26,
                struct.pack(">II", 2**31, 0),
            )
            chunks.insert(index, (new, draw(st.sampled_from(bodies))))
        elif kind == "bomb" and chunks and len(chunks[0][1]) == 13:
            size = draw(st.sampled_from(((4000, 4000), (12_000, 12_000), (20_000, 20_000), (60_000, 1))))
            chunks[0] = b"IHDR", struct.pack(">II", *size) + chunks[0][1][8:]
            chunks[1:] = [(b"IDAT", packed_zeros(draw(st.sampled_from((1, 64, 450))))), (b"IEND", b"")]
        elif kind == "data" and chunks:
            chunks[index] = (
                name,
                draw(st.sampled_from((data[:-5], data[5:], b"", data * 2, zlib.compress(b"\xff" * 999)))),
            )
        elif kind == "bytes" and chunks:
            chunks[index] = name, mutate_bytes(draw, data, [data])
        elif kind == "rows":
            chunks = [(name, _changed_rows(draw, data) if name == b"IDAT" else data) for name, data in chunks]
        elif kind == "move" and chunks:
            chunks.insert(draw(st.integers(0, len(chunks))), chunks.pop(index))
        elif kind == "name" and chunks:
            chunks[index] = draw(st.sampled_from((b"IDAT", b"IEND", b"IHDR", b"abcd", b"\xff\xff\xff\xff"))), data
    return PNG + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
