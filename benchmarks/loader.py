"""Photos a second out of the loader, two workers, against how others feed the same photos."""

from pathlib import Path

import peers
from measure import Result, against, rate, take_turns
from numpy.lib.format import open_memmap
from ours import Ours
from torch.utils.data import DataLoader

WORKERS = 2


def passes(loader: DataLoader) -> int:
    return sum(len(batch[0]) for batch in loader)


def measure(data: Path, scratch: Path, backbone: str, repeats: int) -> dict[str, Result]:
    ours = Ours(data, scratch, backbone)
    file = scratch / "floor.npy"
    # Only its size counts: 256x192, as notebooks shrink these photos.
    open_memmap(file, "w+", "uint8", (len(ours.paths), 256, 192, 3))[:] = 128
    small = {
        "ours": ours.loader((128, 96), WORKERS),
        "organisers": peers.organisers(ours.paths, (128, 96), WORKERS),
        "timm": peers.timm(ours.paths, (128, 96), WORKERS),
        "torchvision": peers.torchvision(ours.paths, (128, 96), WORKERS),
        "cv2": peers.cv2_albumentations(ours.paths, (128, 96), WORKERS),
        "map": peers.memory_map(file, (128, 96), WORKERS),
    }
    values = take_turns({name: lambda way=way: rate(lambda: passes(way)) for name, way in small.items()}, repeats)
    names = {
        "loader_128x96_vs_organisers": "organisers",
        "loader_128x96_vs_timm_create_loader": "timm",
        "loader_128x96_vs_torchvision_v2": "torchvision",
        "loader_128x96_vs_cv2_albumentations": "cv2",
        "loader_128x96_vs_bare_memory_map": "map",
    }
    found = against(values, names, "images/s")
    large = {
        "ours": ours.loader((224, 168), WORKERS),
        "organisers": peers.organisers(ours.paths, (224, 168), WORKERS),
    }
    values = take_turns({name: lambda way=way: rate(lambda: passes(way)) for name, way in large.items()}, repeats)
    return found | against(values, {"loader_224x168_vs_organisers": "organisers"}, "images/s")
