"""Peak memory of training with two workers over three epochs, compared with the same step on tensors in memory.

The memory is the proportional set size of the process and its workers without file-backed pages, which is what a
machine needs.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

from measure import Result

EPOCHS, WORKERS, PHOTOS, BATCHES = 3, 2, 18_900, 8


def private_mb(pid: int) -> float:
    """PSS of anonymous and shared memory (/proc/PID/smaps_rollup) of a process and its children, in MB."""
    total = 0
    for each in [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]:
        try:
            fields = dict(line.split(":") for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()[1:])
        except OSError:
            continue
        total += sum(int(fields[name].split()[0]) for name in ("Pss_Anon", "Pss_Shmem"))
    return total / 1024


class Peak:
    """Peak of private_mb in each epoch, measured only twice a second, because each measurement stops the process."""

    def __init__(self):
        self.now, self.epochs, self._end = 0.0, [], threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.5):
            self.now = max(self.now, private_mb(os.getpid()))

    def next(self) -> None:
        self.epochs.append(max(self.now, private_mb(os.getpid())))
        self.now = 0.0


def child(backbone: str, scratch: Path, feeding: str) -> list[float]:
    """Train and return the peak MB of each epoch, with BATCHES updates per epoch. feeding: loader or tensors."""
    import numpy as np
    import torch

    from maskfold.config.experiment import Config, replaced
    from maskfold.loading.dataset import PhotoDataset
    from maskfold.loading.photo_loader import PhotoLoader
    from maskfold.loading.sampler import PhotoBatchSampler
    from maskfold.loading.store import Store
    from maskfold.loading.transforms import make_train_transform
    from maskfold.models.classifier import build_classifier
    from maskfold.models.device import configure_process, pick_device, pick_precisions
    from maskfold.training.accelerators import make_accelerator
    from maskfold.training.engine import EpochSums, Update, training_step
    from maskfold.training.fold_data import TrainingPhotos
    from maskfold.training.train_state import make_train_state

    peak = Peak()
    config = replaced(Config(), model={"backbone": backbone})
    device = pick_device(config.run)
    configure_process(device)
    config = replaced(config, run={"precision": pick_precisions(config.run, device)[0]})
    classifier = build_classifier(config).to(device)
    labels, ages, weights = np.zeros(PHOTOS, int), np.full(PHOTOS, 30), np.ones(PHOTOS)
    photos = TrainingPhotos((), labels, ages, weights, np.arange(PHOTOS), np.arange(0))
    train_state = make_train_state(config, classifier, photos, make_accelerator(config))
    file, size = scratch / "store.npy", config.optim.batch_size
    dataset = PhotoDataset(Store(file), np.zeros(PHOTOS, int), make_train_transform(config.data))
    # The workers read photos of the whole store, but only BATCHES batches are trained on, since more would not need
    # more memory.
    rows = np.arange(PHOTOS)
    loader = PhotoLoader(dataset, PhotoBatchSampler(rows, size, shuffle=True), WORKERS, pin=False)
    fixed = next(iter(PhotoLoader(dataset, PhotoBatchSampler(rows[:size], size, shuffle=False), 0, pin=False)))

    class FewBatches:
        def __iter__(self):
            if feeding == "tensors":
                yield from [fixed] * BATCHES
            else:
                yield from (batch for step, batch in enumerate(loader) if step < BATCHES)

    for _ in range(EPOCHS):
        sums = EpochSums.zeros(device)
        classifier.train()
        for step, batch in enumerate(FewBatches()):
            training_step(train_state, batch, Update(0, step, loader.batch_sampler.size(step)), sums)
        peak.next()
    torch.manual_seed(0)
    return peak.epochs


def measure(data: Path, scratch: Path, backbone: str, repeats: int) -> dict[str, Result]:
    from numpy.lib.format import open_memmap

    # The file stays empty: black photos need as much memory as others, and a sparse file needs no disk space.
    open_memmap(scratch / "store.npy", "w+", "uint8", (PHOTOS, 256, 192, 3))
    peaks = {}
    for feeding in ("loader", "tensors"):
        words = [sys.executable, __file__, backbone, str(scratch), feeding]
        output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        peaks[feeding] = [float(word) for word in output.split()]
        print(f"memory by epoch ({feeding}): {peaks[feeding]} MB", file=sys.stderr)
    ours, bare = (max(peaks[feeding]) for feeding in ("loader", "tensors"))
    return {"memory_2_workers_18900_photos_vs_tensors": Result(ours, bare, EPOCHS, "MB")}


if __name__ == "__main__":
    print(*(round(value) for value in child(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
