"""Speed of prediction with five fold models and hflip, compared with the forward passes alone and with a plain loop."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from measure import Result, compare_medians, rate, take_turns
from pipeline import Pipeline

from maskfold.config.experiment import Config, replaced
from maskfold.loading.dataset import PhotoDataset
from maskfold.loading.photo_loader import PhotoLoader
from maskfold.loading.sampler import PhotoBatchSampler
from maskfold.loading.store import open_store
from maskfold.loading.transforms import EvalTransform
from maskfold.models.classifier import build_classifier
from maskfold.models.device import Hardware, configure_process, pick_device, pick_precisions, pick_workers
from maskfold.models.prediction_loop import predict as predict_all

MODELS, PHOTOS, VIEWS = 5, 32, ("none", "hflip")


class PlainInference:
    """A process of plain_inference.py; each call makes it predict all photos once."""

    def __init__(self, config: Config, backbone: str, reader: str, paths: list[Path]):
        sizes = map(str, (*config.data.image_size, *config.data.crop_size))
        command = [
            sys.executable,
            str(Path(__file__).with_name("plain_inference.py")),
            backbone,
            *sizes,
            reader,
            *map(str, paths),
        ]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self) -> float:
        print(file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def measure(data: Path, scratch: Path, backbone: str, repeats: int) -> dict[str, Result]:
    ours = Pipeline(data, scratch, backbone)
    device = pick_device(ours.config.run)
    configure_process(device)
    precision, predict_precision = pick_precisions(ours.config.run, device)
    config = replaced(ours.config, run={"precision": precision, "predict_precision": predict_precision})
    hardware, workers = Hardware.of(device, predict_precision), pick_workers("auto", device)
    rows, paths = np.arange(len(ours.paths))[:PHOTOS], ours.paths[:PHOTOS]
    models = [_trained(config, seed).to(device).eval() for seed in range(MODELS)]
    store = open_store(ours.prepared, ours.prepared.images, config.data)
    dataset = PhotoDataset(store, None, EvalTransform(config.data))
    loader = PhotoLoader(dataset, PhotoBatchSampler(rows, config.optim.batch_size, shuffle=False), workers, pin=False)
    batches = [images for images, _, _ in loader]
    work = len(rows) * MODELS * len(VIEWS)

    def predict() -> int:
        predict_all(models, loader, hardware, VIEWS)
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

    plain = {reader: PlainInference(config, backbone, reader, paths) for reader in ("pil", "cv2")}
    values = take_turns({"ours": lambda: rate(predict), "forward": lambda: rate(forward)}, repeats)
    results = compare_medians(values, {"prediction_5_folds_hflip_vs_forward_alone": "forward"}, "images/s")
    values = take_turns({"ours": lambda: rate(predict), **plain}, repeats)
    for loop in plain.values():
        loop.process.stdin.close()
    names = {
        "prediction_5_folds_hflip_vs_usual_way_pil": "pil",
        "prediction_5_folds_hflip_vs_usual_way_cv2": "cv2",
    }
    return results | compare_medians(values, names, "images/s")


def _trained(config: Config, seed: int) -> torch.nn.Module:
    """A model with random weights and batch norm statistics of a few random batches, for realistic activations."""
    torch.manual_seed(seed)
    model = build_classifier(config).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randint(0, 256, (16, 3, *config.data.image_size), dtype=torch.uint8))
    return model
