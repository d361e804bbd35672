"""Find damage inside a JPEG that has its end marker, but whose data is partly overwritten or missing.

Codes in a JPEG have different lengths, so after damage a decoder reads wrong codes and almost always needs more or less
data than there is. It then continues with a grey or shifted picture and gives a warning. simplejpeg reports this
warning; OpenCV and Pillow do not.
"""

import re

from maskfold.errors import UserError
from maskfold.photos.file_kinds import REPLACE
from maskfold.photos.jpeg_header import HUFFMAN_TABLES, JpegHeader
from maskfold.photos.pixels import decode_plain

END = b"\xff\xd9"
BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2
LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF}
MAX_PIXELS = 2**28
# Each block of 8 x 8 pixels needs at least one bit.
MAX_PIXELS_PER_BYTE = 8 * 64
# Warnings that do not concern the data of the picture: an unknown version or colour code, a parameter that baseline
# decoders ignore, an incomplete colour profile.
HARMLESS = ("unknown jfif", "unknown adobe", "invalid sos parameters", "bad icc marker")
PADDED = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
# The decoder reads at most this many bytes ahead, and does not report them as unused.
READ_AHEAD = 8
# A run of this many zero bytes decodes to more than forty equal coefficients in a row, unless zero bits mean "end of
# block".
ZERO_RUN = bytes(16)


def header_fault(header: JpegHeader | None, content: bytes) -> str | None:
    """Check a JPEG without decoding its data. Return what is wrong with it and what to do, or None."""
    size = len(content)
    if header is None or header.scan_start is None:
        return f"cannot be decoded; {REPLACE}" if content.endswith(END) else f"is truncated; {REPLACE}"
    if header.precision != 8 or header.frame not in (BASELINE, EXTENDED, PROGRESSIVE):
        coding = "lossless" if header.frame in LOSSLESS else "arithmetic" if header.frame > 0xC8 else "hierarchical"
        kind = f"{header.precision} bits per sample" if header.precision != 8 else f"{coding} coding"
        return f"is a JPEG with {kind}, which few programs read; save it as an ordinary JPEG"
    pixels = header.height * header.width
    if pixels > MAX_PIXELS:
        return f"has {pixels:,} pixels, more than {MAX_PIXELS:,}; make it smaller"
    if not pixels or pixels > MAX_PIXELS_PER_BYTE * size:
        return f"is damaged ({size:,} bytes cannot hold {header.width} x {header.height} pixels); {REPLACE}"
    # In the data of a scan 0xFF is always escaped, so an end marker after the start of the scan is genuine.
    # The search takes longer than the rest of this function, and most files end with the marker.
    if not content.endswith(END, header.scan_start) and content.find(END, header.scan_start) < 0:
        return f"is truncated; {REPLACE}"
    return None


def data_fault(header: JpegHeader) -> str | None:
    """Decode the whole data of a JPEG. Return what is wrong with it and what to do, or None.

    This takes as long as decoding to 1/8 of the size: all data is decoded, but hardly any pixels are computed. Check
    the header with header_fault first. Raises UserError if simplejpeg is not installed.
    """
    try:
        import simplejpeg
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; run pip install -r requirements.txt") from None
    try:
        simplejpeg.decode_jpeg(header.content, "GRAY", fastdct=True, fastupsample=True, min_height=1, min_width=1)
    except ValueError as error:
        message = str(error)
        if _is_padding(message, header):
            return None
        if not _has_known_sampling(header.content):
            # simplejpeg does not support this chroma subsampling: damage is found only if OpenCV cannot decode at all.
            return f"cannot be decoded; {REPLACE}" if decode_plain(header.content, 8) is None else None
        if not any(words in message.lower() for words in HARMLESS):
            reason = message.removeprefix("Corrupt JPEG data: ")
            return f"is damaged inside ({reason[:1].lower()}{reason[1:]}); {REPLACE}"
    if _has_zero_run(header):
        return f"is damaged inside (zeros in the data of the picture); {REPLACE}"
    return None


def _has_known_sampling(content: bytes) -> bool:
    """Whether simplejpeg supports the chroma subsampling. It rejects unusual ones, such as 3:1, which are valid."""
    import simplejpeg

    try:
        simplejpeg.decode_jpeg_header(content, strict=False)
    # KeyError: of the table in which it looks up what it does not know.
    except (ValueError, KeyError):
        return False
    return True


def _is_padding(message: str, header: JpegHeader) -> bool:
    """Whether the warning is caused by zero bytes that some cameras add before the end marker.

    The decoder reports nearly all of these bytes as unused. If zeros overwrite data, it decodes most of them instead.
    """
    if not (padded := PADDED.search(message)):
        return False
    data = header.content[header.scan_start : header.content.find(END, header.scan_start)]
    zeros, unused = len(data) - len(data.rstrip(b"\0")), int(padded[1])
    return unused <= zeros <= unused + READ_AHEAD


def _has_zero_run(header: JpegHeader) -> bool:
    """Whether the data of a sequential JPEG has a run of zeros that no encoder writes."""
    scan_start = header.scan_start or 0
    start = header.content.find(ZERO_RUN, scan_start)
    if start < 0 or header.frame == PROGRESSIVE:
        return False
    data_end = header.content.find(END, scan_start)
    _, scan_header, _ = header.segments[-1]
    # In a scan of a single colour component, runs of zeros are common.
    has_all_components = header.content[scan_header] == header.components
    return start < data_end and has_all_components and not _zeros_end_blocks(header, scan_header)


def _zeros_end_blocks(header: JpegHeader, scan_header: int) -> bool:
    """Whether zero bits are the code for "end of block" of the first component; flat pictures then have zero runs."""
    table = header.content[scan_header + 2] & 15
    first_symbol = None
    for marker, start, end in header.segments:
        position = start
        while marker == HUFFMAN_TABLES and position + 17 < end:
            if header.content[position] == 0x10 | table:
                first_symbol = header.content[position + 17]
            position += 17 + sum(header.content[position + 1 : position + 17])
    return first_symbol is None or first_symbol == 0
