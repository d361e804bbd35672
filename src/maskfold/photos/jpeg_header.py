"""Read the segments of a JPEG (ITU-T T.81, annex B): its header and the headers of its scans."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from maskfold.photos.file_kinds import JPEG

# The second bytes of markers; the first byte is always 0xFF. All markers from 0xC0 to 0xCF except three begin a frame.
FRAMES = {0xC0 + n for n in range(16)} - {0xC4, 0xC8, 0xCC}
HUFFMAN_TABLES, END_OF_IMAGE, SCAN, QUANTISATION_TABLES, RESTART_INTERVAL, APP2 = 0xC4, 0xD9, 0xDA, 0xDB, 0xDD, 0xE2
# Markers without a length and content: TEM and SOI. The restart markers belong to the data of a scan.
BARE = {0x01, 0xD8}
RESTARTS = range(0xD0, 0xD8)
# 0xFF may be repeated before a marker. In the data of a scan, 0xFF is followed by 0, unless it begins a marker.
MARKER, MARKER_OR_RESTART = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])"), re.compile(rb"\xff([^\x00\xff])")
ICC = b"ICC_PROFILE\0"


@dataclass(frozen=True)
class JpegHeader:
    """The segments of a JPEG up to its first scan, and the values in its frame header.

    frame: the second byte of the start-of-frame marker. component_ids, samplings: one byte for each colour component,
    from the frame header. segments: (marker, start of content, end of content) of each segment up to and including the
    first scan header, as offsets. scan_start: the offset of the first scan's data; None if there is no scan. has_end:
    False if jpeg_scans.with_end_marker has replaced everything after the data of the only scan with an end marker.
    """

    content: bytes
    frame: int
    precision: int
    height: int
    width: int
    component_ids: bytes
    samplings: bytes
    segments: tuple[tuple[int, int, int], ...]
    scan_start: int | None
    has_end: bool = True

    @property
    def components(self) -> int:
        return len(self.component_ids)

    @cached_property
    def data_end(self) -> int:
        """Offset of the end of the first scan's data, for a sequential JPEG whose first scan has all components."""
        for number, match in enumerate(MARKER_OR_RESTART.finditer(self.content, self.scan_start or 0)):
            # After the last restart interval, bytes that look like a restart marker belong to what follows the data.
            if match[1][0] not in RESTARTS or number == self._num_restarts:
                return match.start()
        return len(self.content)

    @property
    def _num_restarts(self) -> int:
        """Number of restart markers in a scan with all components: one after each interval but the last (B.2.4.4)."""
        intervals = [start for marker, start, _ in self.segments if marker == RESTART_INTERVAL]
        interval = int.from_bytes(self.content[intervals[-1] : intervals[-1] + 2]) if intervals else 0
        if not interval:
            return 0
        # Size of a minimum coded unit (MCU) in blocks of 8 x 8 pixels (A.2).
        is_interleaved = self.components > 1
        width = max(*(byte >> 4 for byte in self.samplings), 1) if is_interleaved else 1
        height = max(*(byte & 15 for byte in self.samplings), 1) if is_interleaved else 1
        num_units = -(-self.width // (8 * width)) * -(-self.height // (8 * height))
        return (num_units - 1) // interval

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
    for marker, start, end in iter_segments(content, len(JPEG)):
        segments.append((marker, start, end))
        if marker == SCAN:
            scan_start = end
            break
        if marker in FRAMES and frame is None and end >= start + 6:
            frame = marker, *_frame(content[start:end])
    return frame and JpegHeader(content, *frame, tuple(segments), scan_start)


def iter_segments(content: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start of content, end of content) of each segment from `position` to the end marker.

    Like a decoder, skip the data of scans and bytes between segments. A truncated segment ends the iteration.
    """
    while match := MARKER.search(content, position):
        marker, position = match[1][0], match.end()
        if marker in BARE:
            continue
        start = position + 2
        end = position + int.from_bytes(content[position:start])
        if marker == END_OF_IMAGE or max(start, end) > len(content):
            return
        yield marker, start, end
        position = max(end, start)


def find_data_end(content: bytes, start: int) -> int:
    """Return the end of the scan data that begins at `start`: the offset of the next marker, or the end of the file."""
    match = MARKER.search(content, start)
    return len(content) if match is None else match.start()


def _frame(segment: bytes) -> tuple[int, int, int, bytes, bytes]:
    """Read (precision, height, width, component ids, samplings) from the content of a frame header."""
    components = segment[6 : 6 + 3 * segment[5]]
    return segment[0], int.from_bytes(segment[1:3]), int.from_bytes(segment[3:5]), components[::3], components[1::3]


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Return (height, width) from the frame header of a JPEG; None if the file is not a JPEG or has no such header."""
    header = read_jpeg_header(content) if content.startswith(JPEG) else None
    return None if header is None else (header.height, header.width)
