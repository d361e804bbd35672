"""Mutations of any file: bytes changed, cut out, repeated, inserted, and two valid files joined."""

import re
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

# The longest file that the mutations make; reading a longer one legitimately takes longer than MAX_SECONDS.
MAX_BYTES = 4_000_000
ODD_BYTES = (
    b"\0", b"\0" * 8, b"\xff" * 8, b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\xc3", b"\r", b"\n\n", b"\t", b",", b",,,",
    b'"', b"'", b":", b"- ", b"[", b"{", b"]", b"}", b"&a ", b"*a", b"!!int ", b"%", b"#", b"\\", b"..", b"/", b"nan", b"null",
    b"true", b"-1", b"1e999", b"9" * 30, b"9" * 5000, b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY", b"\x80\x02", b"\xff\xd8",
    b"\xff\xd9", b"\xff\xda", b"IEND", b"\x7f\xff\xff\xff", b"\x00\x00\x01\x00" * 2,
)  # fmt: skip
ODD_NUMBERS = (b"0", b"-1", b"1", b"18", b"255", b"65535", b"4294967296", b"1.5", b"1e999", b"nan", b"9" * 30, b"")
Draw = Callable[[st.SearchStrategy], object]


def position(draw: Draw, content: bytes) -> int:
    return draw(st.integers(0, max(0, len(content) - 1)))


def span(draw: Draw, content: bytes, longest: int = 400) -> tuple[int, int]:
    start = position(draw, content)
    return start, min(len(content), start + draw(st.integers(1, longest)))


def flip_bits(draw: Draw, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 8))):
        if changed:
            changed[position(draw, content)] ^= draw(st.integers(1, 255))
    return bytes(changed)


def overwrite(draw: Draw, content: bytes) -> bytes:
    start, new = position(draw, content), draw(st.sampled_from(ODD_BYTES) | st.binary(max_size=8))
    return content[:start] + new + content[start + len(new) :]


def insert(draw: Draw, content: bytes) -> bytes:
    start, new = position(draw, content), draw(st.sampled_from(ODD_BYTES) | st.binary(max_size=8))
    return content[:start] + new + content[start:]


def truncate(draw: Draw, content: bytes) -> bytes:
    return content[: position(draw, content)]


def cut_start(draw: Draw, content: bytes) -> bytes:
    return content[position(draw, content) :]


def cut_out(draw: Draw, content: bytes) -> bytes:
    start, end = span(draw, content)
    return content[:start] + content[end:]


def repeat(draw: Draw, content: bytes) -> bytes:
    start, end = span(draw, content)
    return content[:end] + content[start:end] * draw(st.sampled_from((1, 2, 10, 500))) + content[end:]


def exchange(draw: Draw, content: bytes) -> bytes:
    cuts = sorted(position(draw, content) for _ in range(3))
    return content[: cuts[0]] + content[cuts[1] : cuts[2]] + content[cuts[0] : cuts[1]] + content[cuts[2] :]


def zero_out(draw: Draw, content: bytes) -> bytes:
    start, end = span(draw, content, 2000)
    return content[:start] + draw(st.sampled_from((b"\0", b"\xff"))) * (end - start) + content[end:]


def change_number(draw: Draw, content: bytes) -> bytes:
    numbers = list(re.finditer(rb"-?[0-9][0-9.]*", content))
    if not numbers:
        return content
    number = draw(st.sampled_from(numbers))
    return content[: number.start()] + draw(st.sampled_from(ODD_NUMBERS)) + content[number.end() :]


MUTATIONS = (flip_bits, overwrite, insert, truncate, cut_start, cut_out, repeat, exchange, zero_out, change_number)


def mutate_bytes(draw: Draw, content: bytes, samples: Sequence[bytes]) -> bytes:
    """One of MUTATIONS, or the beginning of `content` with the end of another valid file."""
    mutate = draw(st.sampled_from((*MUTATIONS, None)))
    if mutate is None:
        other = draw(st.sampled_from(samples))
        return content[: position(draw, content)] + other[position(draw, other) :]
    return mutate(draw, content)


@st.composite
def files(draw: Draw, samples: Sequence[bytes], mutate_content=None) -> bytes:
    """Content of a mutated file.

    mutate_content: (draw, content of a valid file) -> content, a mutation that knows the format. It is applied in four
    of five cases; mutations of the bytes follow in some of these, and in all others.
    """
    content = draw(st.sampled_from(samples))
    knows_format = mutate_content is not None and draw(st.integers(0, 4)) > 0
    if knows_format:
        content = mutate_content(draw, content)
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2) if knows_format else (1, 1, 2, 4)))):
        content = mutate_bytes(draw, content[:MAX_BYTES], samples)
    return content[:MAX_BYTES]
