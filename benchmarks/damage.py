#!/usr/bin/env python
"""How often damage inside a JPEG is found, and how often an intact photo is refused.

Intact photos: several encoders, quality 20 to 98, progressive, restart markers, optimised Huffman tables, chroma
subsampling, odd sizes, a movie after the end marker or in place of it, stray bytes between header segments, an
unknown JFIF version. Damage: a block of the data is zeroed, cut out, overwritten by random bytes, or exchanged with
another block; the end marker stays. Only damage that changes more than 5 % of the pixels counts. Uses one core.

    python benchmarks/damage.py --photos FOLDER --intact 2000 --damaged 200
"""

import argparse
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageFile

from maskfold.data.decode import photo_fault
from maskfold.photos.jpeg_header import read_jpeg_header
from maskfold.synthetic.demo_data import make_demo

# Sizes of a damaged block in bytes; 0 stands for a quarter of the data.
BLOCKS = (64, 512, 4096, 0)
# A pixel has changed if a channel differs by more than this.
MAX_DIFFERENCE = 2
MIN_CHANGED = 0.05
END = b"\xff\xd9"
# Ways to encode an intact photo; the last one leaves out the end marker.
NUM_WAYS = 13
WITHOUT_END = 12

# Pillow must decode damaged files too, so that their pixels can be compared.
ImageFile.LOAD_TRUNCATED_IMAGES = True


def encode(image: np.ndarray, number: int, rng: np.random.Generator) -> bytes:
    """Encode an RGB image as a JPEG in one of 13 ways, with random quality, subsampling and size."""
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        image = image[: height - int(rng.integers(0, 17)), : width - int(rng.integers(0, 17))]
    quality, way = int(rng.integers(20, 99)), number % NUM_WAYS
    if way in (0, 1, 2):
        flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
        flags += [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 7]][way]
        return cv2.imencode(".jpg", image[..., ::-1], flags)[1].tobytes()
    if way == 3:
        sampling = ("444", "422", "420", "440", "411")[number // NUM_WAYS % 5]
        return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, colorsubsampling=sampling)
    picture, out = Image.fromarray(np.ascontiguousarray(image)), io.BytesIO()
    options = {
        4: {"subsampling": number // NUM_WAYS % 3},
        5: {"optimize": True},
        6: {"progressive": True, "subsampling": number // NUM_WAYS % 3},
        7: {"restart_marker_rows": 1, "optimize": bool(number // NUM_WAYS % 2)},
        8: {"optimize": True},
        9: {},
        10: {"progressive": bool(number // NUM_WAYS % 2)},
        11: {"progressive": bool(number // NUM_WAYS % 2)},
        WITHOUT_END: {},
    }[way]
    (picture.convert("L") if way == 8 else picture).save(out, "JPEG", quality=quality, **options)
    content = out.getvalue()
    movie = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00isommp42" + rng.bytes(20_000)
    if way == 9:
        return content + movie
    if way == 10:
        header = read_jpeg_header(content)
        segments = [content[start - 4 : end] for _, start, end in header.segments]
        return content[:2] + rng.bytes(5).replace(b"\xff", b"\xfe").join(segments) + content[header.scan_start :]
    if way == 11:
        return content[:11] + b"\x07" + content[12:]
    return content.removesuffix(END) + movie if way == WITHOUT_END else content


def damage(content: bytes, kind: str, size: int, rng: np.random.Generator) -> bytes:
    """Damage `size` bytes of the data between the header and the end marker."""
    header = read_jpeg_header(content)
    first, last = header.scan_start, content.find(END, header.scan_start)
    size = min(size or (last - first) // 4, (last - first) // 2)
    start = int(rng.integers(first, last - size))
    damaged = bytearray(content)
    if kind == "zeroed":
        damaged[start : start + size] = bytes(size)
    elif kind == "cut out":
        del damaged[start : start + size]
    elif kind == "random":
        damaged[start : start + size] = rng.bytes(size).replace(b"\xff", b"\xfe")
    else:
        other = int(rng.integers(first, last - size))
        damaged[start : start + size], damaged[other : other + size] = (
            content[other : other + size],
            content[start : start + size],
        )
    return bytes(damaged)


def changed_share(one: bytes, other: bytes) -> float:
    """Share of pixels that differ between two files; 1 if one of the files cannot be decoded."""
    try:
        images = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), int) for content in (one, other)]
    except (OSError, ValueError, SyntaxError):
        return 1.0
    if images[0].shape != images[1].shape:
        return 1.0
    return float((np.abs(images[0] - images[1]).max(2) > MAX_DIFFERENCE).mean())


def source_images(folder: Path | None, count: int) -> Iterator[np.ndarray]:
    """Yield `count` RGB images of a folder, repeated if it has fewer, or of synthetic people."""
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None:
            make_demo(Path(scratch) / "demo", people=30, eval_people=1, seed=0)
            folder = Path(scratch) / "demo" / "train"
        paths = sorted(path for path in folder.rglob("*.jp*g") if not path.name.startswith("."))
        for number in range(count):
            yield cv2.imread(str(paths[number % len(paths)]), cv2.IMREAD_COLOR_RGB)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of JPEGs to start from (default: synthetic people)")
    parser.add_argument("--intact", type=int, default=2000, help="number of intact photos (default: %(default)s)")
    parser.add_argument(
        "--damaged", type=int, default=200, help="damaged photos of each kind and size (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choices (default: %(default)s)")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    photos, refused, seconds = [], 0, 0.0
    for number, image in enumerate(source_images(args.photos, args.intact)):
        content = encode(image, number, rng)
        start = time.perf_counter()
        fault = photo_fault(content)
        seconds += time.perf_counter() - start
        refused += fault is not None
        if fault:
            print(f"intact photo {number} refused: {fault}")
        if number % NUM_WAYS != WITHOUT_END:
            photos.append(content)
    print(f"intact: {refused} of {args.intact} refused; {seconds / args.intact * 1000:.2f} ms per photo")
    print("\n| damage | " + " | ".join(f"{size} bytes" if size else "a quarter" for size in BLOCKS) + " |")
    print("|---|" + "---|" * len(BLOCKS))
    for kind in ("zeroed", "cut out", "random", "swapped"):
        cells = []
        for size in BLOCKS:
            num_found = num_tried = 0
            for content in sorted(photos, key=lambda _: rng.random()):
                damaged = damage(content, kind, size, rng)
                if changed_share(content, damaged) > MIN_CHANGED:
                    num_tried += 1
                    num_found += photo_fault(damaged) is not None
                if num_tried == args.damaged:
                    break
            cells.append(f"{num_found / max(num_tried, 1):.1%} of {num_tried}")
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
