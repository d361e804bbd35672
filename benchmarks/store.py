"""Speed of building the store, compared with only decoding at reduced size and resizing."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
from measure import Result, compare_medians, rate, take_turns
from pipeline import Pipeline

from maskfold.loading.store import open_store


def measure(data: Path, scratch: Path, backbone: str, repeats: int) -> dict[str, Result]:
    ours = Pipeline(data, scratch, backbone)
    paths = list(map(str, ours.paths))

    def decode(path: str) -> None:
        cv2.resize(cv2.imread(path, cv2.IMREAD_REDUCED_COLOR_2), (120, 160))

    def floor() -> int:
        with ThreadPoolExecutor() as pool:
            list(pool.map(decode, paths, chunksize=16))
        return len(paths)

    def build() -> int:
        shutil.rmtree(ours.prepared.folder / "store", ignore_errors=True)
        return len(open_store(ours.prepared, ours.prepared.images, ours.config.data))

    values = take_turns({"ours": lambda: rate(build), "floor": lambda: rate(floor)}, repeats)
    return compare_medians(values, {"store_build_vs_reduced_decode": "floor"}, "images/s")
