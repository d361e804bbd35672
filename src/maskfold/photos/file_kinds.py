"""Recognise the format of a file from its first bytes, for messages about files that are not JPEG or PNG."""

JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
CONVERT = "convert it to JPEG or PNG"
REPLACE = "replace the photo"
# Other picture formats by their first bytes.
SIGNATURES = {
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
    b"\0\0\x01\0": "ICO",
}
# Brands of ISO base media files (ISO/IEC 14496-12). The major brand is in bytes 8 to 11, after the box type `ftyp`.
BRANDS = dict.fromkeys((b"avif", b"avis"), "AVIF") | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"
)
VIDEOS = ("MP4", "AVI")
# Files that are not pictures or videos, by their first bytes: what they are, and what to do.
OTHERS = {
    b"version https://git-lfs": ("is a Git LFS pointer, not the photo itself", "fetch it with git lfs pull"),
    b"PK\x03\x04": ("is a ZIP archive, not a photo", "unpack it"),
    b"Rar!": ("is a RAR archive, not a photo", "unpack it"),
    b"\x1f\x8b": ("is a gzip archive, not a photo", "unpack it"),
}
MARKUP = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<svg", b"<script", b"<error")


def kind_fault(content: bytes) -> str | None:
    """Return what kind of file this is and what to do; None for a JPEG or PNG."""
    if not content:
        return f"is empty (0 bytes); {REPLACE}"
    # OpenCV and most viewers recognise a JPEG only if another marker follows the first one.
    if content.startswith((JPEG + b"\xff", PNG)):
        return None
    if kind := _media_kind(content):
        if kind in VIDEOS:
            return f"is a video ({kind}), not a photo; {REPLACE}"
        return f"is a {kind} file, not JPEG or PNG; {CONVERT}"
    for signature, (fault, fix) in OTHERS.items():
        if content.startswith(signature):
            return f"{fault}; {fix}"
    start = content[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(MARKUP):
        return f"is a web page or XML text, not a photo; {REPLACE}"
    if not content.strip(b"\0"):
        return f"contains only zero bytes; {REPLACE}"
    try:
        text = content[:512].decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if text and all(letter.isprintable() or letter.isspace() for letter in text):
        return f"is a text file, not a JPEG or PNG image; {REPLACE}"
    return f"is not a JPEG or PNG image; {REPLACE}"


def _media_kind(content: bytes) -> str | None:
    """Return the format of a picture that is not a JPEG or PNG, or of a video; None for any other file."""
    if content[4:8] == b"ftyp":
        # The major brand of an AVIF file may be mif1; its compatible brands then contain an AVIF brand.
        brands = [content[8:12], *(content[start : start + 4] for start in range(16, min(content[3], 64), 4))]
        names = [BRANDS[brand] for brand in brands if brand in BRANDS]
        return "AVIF" if "AVIF" in names else names[0] if names else "MP4"
    if content.startswith(b"RIFF"):
        return {b"WEBP": "WebP", b"AVI ": "AVI"}.get(content[8:12])
    return next((kind for signature, kind in SIGNATURES.items() if content.startswith(signature)), None)
