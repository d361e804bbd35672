"""Photos per second of the loader with two workers, compared with other data loaders on the same photos."""

from pathlib import Path

import other_loaders
from measure import Result, compare_medians, rate, take_turns
from numpy.lib.format import open_memmap
from pipeline import Pipeline
from torch.utils.data import DataLoader

WORKERS = 2
# Photos per pass of the loaders that do not decode JPEGs. They load all photos in a tenth of a second, which is too
# short to measure, so they repeat them.
NUM_PHOTOS = 4_200


def count_photos(loader: DataLoader) -> int:
    return sum(len(batch[0]) for batch in loader)


def measure(data: Path, scratch: Path, backbone: str, repeats: int) -> dict[str, Result]:
    ours = Pipeline(data, scratch, backbone)
    file = scratch / "floor.npy"
    # Only the size matters: 256x192, a usual size of resized photos in Kaggle notebooks.
    open_memmap(file, "w+", "uint8", (NUM_PHOTOS, 256, 192, 3))[:] = 128
    small = {
        "ours": ours.loader((128, 96), WORKERS, NUM_PHOTOS),
        "organisers": other_loaders.organisers(ours.paths, (128, 96), WORKERS),
        "timm": other_loaders.timm(ours.paths, (128, 96), WORKERS),
        "torchvision": other_loaders.torchvision(ours.paths, (128, 96), WORKERS),
        "cv2": other_loaders.cv2_albumentations(ours.paths, (128, 96), WORKERS),
        "map": other_loaders.memory_map(file, (128, 96), WORKERS),
    }
    values = take_turns(
        {name: lambda loader=loader: rate(lambda: count_photos(loader)) for name, loader in small.items()}, repeats
    )
    names = {
        "loader_128x96_vs_organisers": "organisers",
        "loader_128x96_vs_timm_create_loader": "timm",
        "loader_128x96_vs_torchvision_v2": "torchvision",
        "loader_128x96_vs_cv2_albumentations": "cv2",
        "loader_128x96_vs_bare_memory_map": "map",
    }
    results = compare_medians(values, names, "images/s")
    large = {
        "ours": ours.loader((224, 168), WORKERS, NUM_PHOTOS),
        "organisers": other_loaders.organisers(ours.paths, (224, 168), WORKERS),
    }
    values = take_turns(
        {name: lambda loader=loader: rate(lambda: count_photos(loader)) for name, loader in large.items()}, repeats
    )
    return results | compare_medians(values, {"loader_224x168_vs_organisers": "organisers"}, "images/s")
