"""Five fold models and hflip: photos read once, against the models alone and against reading anew for each."""

from pathlib import Path

import cv2
import numpy as np
import torch
from measure import Result, against, rate, take_turns
from ours import Ours
from torch.utils.data import DataLoader, Dataset

from maskfold.config import Config, replaced
from maskfold.data.dataset import Batches, PhotoDataset, make_loader
from maskfold.data.store import open_store
from maskfold.data.transforms import eval_transform
from maskfold.models.classifier import build_classifier
from maskfold.training.device import DTYPES, make_fast, pick_device, pick_precisions, pick_workers
from maskfold.training.engine import Hardware, predict_probs

MODELS, PHOTOS, VIEWS = 5, 560, ("none", "hflip")


class Usual(Dataset):
    """Reads, crops, resizes and normalises a photo, mirrored or not: what each model and view does anew."""

    def __init__(self, paths: list[Path], config, flip: bool):
        self.paths, self.data, self.flip = list(map(str, paths)), config.data, flip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, at: int) -> torch.Tensor:
        image = cv2.cvtColor(cv2.imread(self.paths[at]), cv2.COLOR_BGR2RGB)
        height, width = self.data.crop_size
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        image = cv2.resize(image[top : top + height, left : left + width], self.data.image_size[::-1])
        image = (image[:, ::-1] if self.flip else image).astype(np.float32) / 255
        return torch.from_numpy((image - 0.5) / 0.5).permute(2, 0, 1).contiguous()


def measure(data: Path, scratch: Path, backbone: str, repeats: int) -> dict[str, Result]:
    ours = Ours(data, scratch, backbone)
    device = pick_device(ours.config.run)
    make_fast(device)
    precision, predict_precision = pick_precisions(ours.config.run, device)
    config = replaced(ours.config, run={"precision": precision, "predict_precision": predict_precision})
    hardware, workers = Hardware(device, DTYPES[predict_precision]), pick_workers("auto", device)
    rows, paths = np.arange(len(ours.paths))[:PHOTOS], ours.paths[:PHOTOS]
    models = [_trained(config, seed).to(device).eval() for seed in range(MODELS)]
    # What peers run: the default memory format, float32.
    plain = [_trained(config, seed).to(memory_format=torch.contiguous_format) for seed in range(MODELS)]
    plain = [model.to(device).eval() for model in plain]
    store = open_store(ours.prepared, ours.prepared.images, config.data)
    dataset = PhotoDataset(store, None, eval_transform(config.data))
    loader = make_loader(dataset, Batches(rows, config.optim.batch_size, shuffle=False), workers, pin=False)
    batches = [images for images, _, _ in loader]
    work = len(rows) * MODELS * len(VIEWS)

    def predict() -> int:
        predict_probs(models, loader, hardware, VIEWS)
        return work

    @torch.inference_mode()
    def forward() -> int:
        for images in batches:
            images = images.to(device)
            with hardware.autocast():
                for model in models:
                    for view in (images, images.flip(-1)):
                        last = model(view)
        last.sum().item()
        return work

    @torch.inference_mode()
    def usual() -> int:
        for model in plain:
            for flip in (False, True):
                for images in DataLoader(Usual(paths, config, flip), config.optim.batch_size, num_workers=workers):
                    last = model.head(model.backbone(images.to(device)))
        last.sum().item()
        return work

    ways = {"ours": predict, "forward": forward, "usual": usual}
    values = take_turns({name: lambda way=way: rate(way) for name, way in ways.items()}, repeats)
    names = {"prediction_5_folds_hflip_vs_forward_alone": "forward", "prediction_5_folds_hflip_vs_usual_way": "usual"}
    return against(values, names, "images/s")


def _trained(config: Config, seed: int) -> torch.nn.Module:
    """Weights that give ordinary activations: batch norm's statistics of a few steps rather than of none."""
    torch.manual_seed(seed)
    model = build_classifier(config).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randint(0, 256, (16, 3, *config.data.image_size), dtype=torch.uint8))
    return model
