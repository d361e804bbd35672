"""Read the segments before the first scan of a JPEG (ITU-T T.81, annex B)."""

from dataclasses import dataclass
from functools import cached_property

from maskfold.photos.file_kinds import JPEG

# A marker is 0xFF and a second byte, which is listed here. Start of frame: 0xC0 to 0xCF except three other markers.
FRAMES = {0xC0 + n for n in range(16)} - {0xC4, 0xC8, 0xCC}
HUFFMAN_TABLES, SCAN, APP2 = 0xC4, 0xDA, 0xE2
# Markers without a length and content: TEM, RST0 to RST7, SOI.
BARE = {0x01, *range(0xD0, 0xD9)}
ICC = b"ICC_PROFILE\0"


@dataclass(frozen=True)
class JpegHeader:
    """The segments of a JPEG up to its first scan, and the values in its frame header.

    frame: the marker of the start of frame. segments: (marker, start of content, end of content) of each segment before
    the scan and of the scan header. scan_start: the offset of the scan's data; None if there is no scan.
    """

    content: bytes
    frame: int
    precision: int
    height: int
    width: int
    components: int
    segments: tuple[tuple[int, int, int], ...]
    scan_start: int | None

    @cached_property
    def icc_profile(self) -> bytes | None:
        """The embedded colour profile, joined from its parts (ICC.1:2022, B.4), or None."""
        parts = sorted(
            (self.content[start + 12], self.content[start + 14 : end])
            for marker, start, end in self.segments
            if marker == APP2 and end - start > 14 and self.content.startswith(ICC, start)
        )
        return b"".join(part for _, part in parts) or None


def read_jpeg_header(content: bytes) -> JpegHeader | None:
    """Read the segments up to the first scan. Return None if there is no frame header."""
    frame, segments, scan_start = None, [], None
    position = len(JPEG)
    while position + 4 <= len(content):
        # A decoder skips bytes between segments until the next marker, and 0xFF may be repeated before a marker.
        if content[position] != 0xFF:
            position = content.find(b"\xff", position)
            if position < 0:
                break
            continue
        marker = content[position + 1]
        if marker in BARE or marker in (0x00, 0xFF):
            position += 1 if marker == 0xFF else 2
            continue
        start, end = position + 4, position + 2 + int.from_bytes(content[position + 2 : position + 4])
        if end > len(content):
            break
        segments.append((marker, start, end))
        if marker == SCAN:
            scan_start = end
            break
        if marker in FRAMES and frame is None and end >= start + 6:
            frame = marker, *_frame(content[start:end])
        position = max(end, position + 2)
    return frame and JpegHeader(content, *frame, tuple(segments), scan_start)


def _frame(segment: bytes) -> tuple[int, int, int, int]:
    """Read (precision, height, width, components) from the content of a frame header."""
    return segment[0], int.from_bytes(segment[1:3]), int.from_bytes(segment[3:5]), segment[5]


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Return (height, width) from the frame header of a JPEG; None for other files and without a frame header."""
    header = read_jpeg_header(content) if content.startswith(JPEG) else None
    return None if header is None else (header.height, header.width)
