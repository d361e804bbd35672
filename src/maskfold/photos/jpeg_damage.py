"""Find damage inside a JPEG: the end marker is there, but a part of the data is overwritten or missing.

Huffman codes have different lengths, so after damage a decoder reads wrong codes and almost always needs more or less
data than there is. It then gives a warning and continues with a grey or shifted picture. simplejpeg reports this
warning; OpenCV and Pillow do not.
"""

import re

from maskfold.errors import UserError
from maskfold.photos.file_kinds import REPLACE
from maskfold.photos.jpeg_header import HUFFMAN_TABLES, JpegHeader, read_jpeg_header
from maskfold.photos.jpeg_scans import END, PROGRESSIVE, decoded_copy, has_single_scan, lacks_scans, with_end_marker
from maskfold.photos.pixels import decode_plain

BASELINE, EXTENDED = 0xC0, 0xC1
LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF}
MAX_PIXELS = 2**28
# Each block of 8 x 8 pixels needs at least one bit.
MAX_PIXELS_PER_BYTE = 8 * 64
UNUSED = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
# The decoder reads at most this many bytes ahead, and does not report them as unused.
READ_AHEAD = 8
# The blocks of a Samsung trailer and the boxes of an MP4 movie begin with two zero bytes. Other bytes in place of the
# end marker are a sign that the marker and a part of the data were overwritten.
TRAILER_START = bytes(2)
# A run of this many zero bytes decodes to more than forty equal coefficients in a row, unless the Huffman code that has
# only 0 bits means "end of block".
ZERO_RUN = bytes(16)


def read_jpeg(content: bytes) -> tuple[JpegHeader | None, str | None]:
    """Read the header of a JPEG. Return (header, fault); fault: what is wrong with the file and what to do, or None.

    The data is decoded only if no end marker follows the start of the scan. If no end marker directly follows the data
    of a single scan, for example because of a trailer, header.content is a copy in which an end marker replaces
    everything after the data.
    """
    header = read_jpeg_header(content)
    if header is not None and header.scan_start is not None:
        header = with_end_marker(header)
    return header, _header_fault(header, content)


def _header_fault(header: JpegHeader | None, content: bytes) -> str | None:
    size = len(content)
    if header is None or header.scan_start is None:
        return f"cannot be decoded; {REPLACE}" if content.endswith(END) else f"is truncated; {REPLACE}"
    if header.precision != 8 or header.frame not in (BASELINE, EXTENDED, PROGRESSIVE):
        coding = "lossless" if header.frame in LOSSLESS else "arithmetic" if header.frame > 0xC8 else "hierarchical"
        kind = f"{header.precision} bits per sample" if header.precision != 8 else f"{coding} coding"
        return f"is a JPEG with {kind}, which few programs can read; save it as a baseline JPEG"
    pixels = header.height * header.width
    if pixels > MAX_PIXELS:
        return f"has {pixels:,} pixels, more than {MAX_PIXELS:,}; make it smaller"
    if not pixels or pixels > MAX_PIXELS_PER_BYTE * size:
        return f"is damaged ({size:,} bytes cannot hold {header.width} x {header.height} pixels); {REPLACE}"
    # In the data of a scan, 0xFF is always escaped, so an end marker after the start of the scan is genuine.
    # endswith is tried first, because most files end with the marker and the search takes longer than all other checks.
    has_end = content.endswith(END, header.scan_start) or content.find(END, header.scan_start) >= 0
    if not has_end and (header.has_end or data_fault(header)):
        return f"is truncated; {REPLACE}"
    return None


def data_fault(header: JpegHeader) -> str | None:
    """Decode the whole data of a JPEG. Return what is wrong with it and what to do, or None.

    This takes as long as decoding to 1/8 of the size: all data is decoded, but hardly any pixels are computed. The
    header must have passed the checks of read_jpeg. Raises UserError if simplejpeg is not installed.
    """
    warning, num_unused = _warning(header.content), 0
    if warning and not _has_known_sampling(header.content):
        # simplejpeg fails because it does not support this chroma subsampling, so only OpenCV can check the file.
        if decode_plain(header.content, 8) is None:
            return f"cannot be decoded; {REPLACE}"
    elif warning:
        # libjpeg reports only the first warning, which may be about metadata or bytes between segments. The copy lacks
        # both, so its warning is about the data.
        copy = decoded_copy(header)
        warning = _warning(copy)
        num_unused = _num_unused(warning, copy, header) if warning else 0
        if warning and not num_unused:
            reason = warning.removeprefix("Corrupt JPEG data: ")
            return f"is damaged inside ({reason[:1].lower()}{reason[1:]}); {REPLACE}"
    if _has_zero_run(header, num_unused):
        return f"is damaged inside (zeros in the data of the picture); {REPLACE}"
    if lacks_scans(header):
        return f"is damaged inside (scans are missing); {REPLACE}"
    return None


def _warning(content: bytes) -> str | None:
    """Decode a JPEG to 1/8 of its size. Return the decoder's error or first warning, or None."""
    try:
        import simplejpeg
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; run pip install -r requirements.txt") from None
    try:
        simplejpeg.decode_jpeg(content, "GRAY", fastdct=True, fastupsample=True, min_height=1, min_width=1)
    except ValueError as error:
        return str(error)
    return None


def _has_known_sampling(content: bytes) -> bool:
    """Whether simplejpeg supports the chroma subsampling. It rejects some valid ones, such as 3:1."""
    import simplejpeg

    try:
        simplejpeg.decode_jpeg_header(content, strict=False)
    # simplejpeg looks up the subsampling in a table, which raises KeyError for an unknown one.
    except (ValueError, KeyError):
        return False
    return True


def _num_unused(warning: str, copy: bytes, header: JpegHeader) -> int:
    """Return the number of unused bytes at the end of the data, or 0 if the warning is a sign of damage.

    Some cameras add zeros before the end marker, or write a trailer in its place. The decoder reports nearly all of
    these bytes as unused. If zeros have overwritten data, the decoder decodes most of them instead.
    """
    if not (unused := UNUSED.search(warning)):
        return 0
    num_unused, data = int(unused[1]), copy[: -len(END)]
    unused_start = len(data) - num_unused
    num_zeros = unused_start - len(data[:unused_start].rstrip(b"\0"))
    if header.has_end:
        is_harmless = not data[unused_start:].strip(b"\0")
    else:
        is_harmless = TRAILER_START in data[unused_start - READ_AHEAD : unused_start + len(TRAILER_START)]
    return num_unused if is_harmless and num_zeros <= READ_AHEAD else 0


def _has_zero_run(header: JpegHeader, num_unused: int) -> bool:
    """Whether the data of a single scan has a run of zero bytes that no encoder writes."""
    start = header.content.find(ZERO_RUN, header.scan_start)
    # Such runs are common if each colour component has its own scan.
    if start < 0 or not has_single_scan(header):
        return False
    _, scan_header, _ = header.segments[-1]
    is_decoded = start + len(ZERO_RUN) <= header.data_end - num_unused
    return is_decoded and not _zeros_end_blocks(header, scan_header)


def _zeros_end_blocks(header: JpegHeader, scan_header: int) -> bool:
    """Whether the Huffman code of only 0 bits means "end of block" in the first component, or its meaning is unknown.

    If the code means this, intact pictures with flat areas can contain runs of zeros, so a run is no sign of damage.
    """
    table = header.content[scan_header + 2] & 15
    first_symbol = None
    for marker, start, end in header.segments:
        position = start
        while marker == HUFFMAN_TABLES and position + 17 < end:
            if header.content[position] == 0x10 | table:
                first_symbol = header.content[position + 17]
            position += 17 + sum(header.content[position + 1 : position + 17])
    return first_symbol is None or first_symbol == 0
