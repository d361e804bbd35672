"""A plain inference loop in a process of its own, with the default allocator, float32 and the default memory format.

Every photo is read and preprocessed again for each model and TTA view. inference.py starts the process. For each line
on stdin it predicts all photos once and prints images/s. Arguments: backbone, height, width, crop height, crop width,
pil or cv2, then the photos.
"""

import sys
import time

import cv2
import numpy as np
import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

MODELS, BATCH = 5, 64
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


class Photos(Dataset):
    def __init__(self, paths: list[str], size, crop, flip: bool, reader: str):
        self.paths, self.size, self.crop, self.flip, self.reader = paths, size, crop, flip, reader
        flips = [T.RandomHorizontalFlip(1.0)] if flip else []
        self.steps = T.Compose([T.CenterCrop(crop), T.Resize(size), *flips, T.ToTensor(), T.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.reader == "pil":
            return self.steps(Image.open(self.paths[index]).convert("RGB"))
        image = cv2.cvtColor(cv2.imread(self.paths[index]), cv2.COLOR_BGR2RGB)
        top, left = (image.shape[0] - self.crop[0]) // 2, (image.shape[1] - self.crop[1]) // 2
        image = cv2.resize(image[top : top + self.crop[0], left : left + self.crop[1]], self.size[::-1])
        image = (image[:, ::-1] if self.flip else image).astype(np.float32) / 255
        return torch.from_numpy((image - MEAN[0]) / STD[0]).permute(2, 0, 1).contiguous()


@torch.inference_mode()
def main() -> None:
    backbone, height, width, crop_height, crop_width, reader, *paths = sys.argv[1:]
    size, crop = (int(height), int(width)), (int(crop_height), int(crop_width))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    models = [
        with_batch_norm_statistics(timm.create_model(backbone, num_classes=18), size).to(device).eval()
        for _ in range(MODELS)
    ]
    for _ in sys.stdin:
        start = time.perf_counter()
        for model in models:
            for flip in (False, True):
                for images in DataLoader(Photos(paths, size, crop, flip, reader), BATCH):
                    probs = model(images.to(device)).softmax(1)
        probs.sum().item()
        print(len(paths) * MODELS * 2 / (time.perf_counter() - start), flush=True)


def with_batch_norm_statistics(model: torch.nn.Module, size: tuple[int, int]) -> torch.nn.Module:
    """Compute batch norm statistics from a few random batches, for realistic activations."""
    model.train()
    for _ in range(3):
        model(torch.randn(16, 3, *size))
    return model


if __name__ == "__main__":
    main()
