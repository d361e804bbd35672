"""Speed of building the store with each data.decode, compared with only decoding the same way and resizing."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
from measure import Result, compare_medians, rate, take_turns
from pipeline import Pipeline

from maskfold.loading.store import open_store


def measure(data: Path, scratch: Path, backbone: str, repeats: int) -> dict[str, Result]:
    ours = Pipeline(data, scratch, backbone)
    paths = list(map(str, ours.paths))

    def floor(flag: int) -> int:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda path: cv2.resize(cv2.imread(path, flag), (120, 160)), paths, chunksize=16))
        return len(paths)

    def build(decode: str) -> int:
        shutil.rmtree(ours.prepared.folder / "store", ignore_errors=True)
        data = ours.config.data.model_copy(update={"decode": decode})
        return len(open_store(ours.prepared, ours.prepared.images, data))

    results = {}
    for decode, flag in (("full", cv2.IMREAD_COLOR), ("reduced", cv2.IMREAD_REDUCED_COLOR_2)):
        functions = {"ours": partial(rate, partial(build, decode)), "floor": partial(rate, partial(floor, flag))}
        values = take_turns(functions, repeats)
        results |= compare_medians(values, {f"store_build_vs_{decode}_decode": "floor"}, "images/s")
    return results
