"""Work with the scans of a JPEG: append a missing end marker, copy only what a decoder needs, find missing scans."""

from dataclasses import replace

from maskfold.photos.file_kinds import JPEG
from maskfold.photos.jpeg_header import (
    FRAMES,
    HUFFMAN_TABLES,
    QUANTISATION_TABLES,
    RESTART_INTERVAL,
    SCAN,
    JpegHeader,
    find_data_end,
    iter_segments,
)

END = b"\xff\xd9"
PROGRESSIVE = 0xC2
DECODED = FRAMES | {HUFFMAN_TABLES, QUANTISATION_TABLES, RESTART_INTERVAL}
# Spectral selection and successive approximation of a sequential scan: all coefficients of a block, with all bits.
ALL_COEFFICIENTS = bytes((0, 63, 0))


def has_single_scan(header: JpegHeader) -> bool:
    """Whether the JPEG is sequential and one scan has the data of all components, as in nearly all sequential JPEGs."""
    _, scan_header, _ = header.segments[-1]
    return header.frame != PROGRESSIVE and header.content[scan_header] == header.components


def with_end_marker(header: JpegHeader) -> JpegHeader:
    """Replace everything after the data of a single scan with an end marker, unless an end marker follows directly.

    Samsung panoramas have a trailer with a movie right after the data. Viewers show these photos, because they decode
    all pixels before they look for the end marker. If the file is truncated, jpeg_damage.data_fault finds that data is
    missing.
    """
    content, end = header.content, header.data_end
    if not has_single_scan(header) or content.startswith(END, end):
        return header
    return replace(header, content=content[:end] + END, has_end=False)


def decoded_copy(header: JpegHeader) -> bytes:
    """Return a copy with only the frame header, tables and scans, so that every decoder warning concerns the data."""
    content, parts = header.content, [JPEG]
    for marker, start, end in iter_segments(content, len(JPEG)):
        if marker == SCAN:
            # A sequential decoder ignores these values, but it warns if they are not the usual ones.
            values = content[end - 3 : end] if header.frame == PROGRESSIVE else ALL_COEFFICIENTS
            parts += [content[start - 4 : end - 3], values, content[end : find_data_end(content, end)]]
        elif marker in DECODED:
            parts.append(content[start - 4 : end])
    return b"".join([*parts, END])


def lacks_scans(header: JpegHeader) -> bool:
    """Whether some bits of a component's coefficients are in no scan, so that a viewer shows a blurred or grey picture.

    A decoder gives no warning, because an encoder may leave out bits. But libjpeg, mozjpeg, jpegli and Photoshop write
    all bits, so a file that lacks some was cut between two scans.
    """
    if has_single_scan(header):
        return False
    content = header.content
    missing = {(component, coefficient) for component in header.component_ids for coefficient in range(64)}
    for marker, start, end in iter_segments(content, len(JPEG)):
        if marker != SCAN:
            continue
        components = content[start + 1 : start + 1 + 2 * content[start] : 2]
        first, last, bits = content[end - 3 : end] if header.frame == PROGRESSIVE else ALL_COEFFICIENTS
        # The lower half of this byte (Al in T.81) is the number of low-order bits of each coefficient that later scans
        # add.
        if bits & 15 == 0:
            missing -= {(component, coefficient) for component in components for coefficient in range(first, last + 1)}
    return bool(missing)
