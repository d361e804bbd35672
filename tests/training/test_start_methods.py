"""Start methods of loader processes (fork, spawn on macOS, forkserver from Python 3.14 on Linux) change no result."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, tiny_args

from maskfold.config.experiment import Data
from maskfold.data.images_table import load_prepared
from maskfold.loading.dataset import PhotoDataset
from maskfold.loading.store import open_store
from maskfold.loading.transforms import EvalTransform, make_train_transform
from maskfold.probabilities import load_predictions

START = """
import multiprocessing, runpy, sys
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("augment", ["none", "light", "strong", "randaugment", [{"HorizontalFlip": {"p": 0.5}}]])
def test_a_pickled_dataset_gives_the_same_photos(trained, augment):
    prepared = load_prepared(trained.prepared)
    data = Data(image_size=(32, 32), augment=augment)
    store = open_store(prepared, prepared.images, data)
    keys = [(epoch, row, 0) for epoch, row in ((1, 3), (1, 3), (1, 8), (1, 20))]
    for transform in (EvalTransform(data), make_train_transform(data)):
        dataset = PhotoDataset(store, prepared.images.label.to_numpy(), transform, seed=5)
        # After some samples, when the generator's state has changed.
        dataset.__getitems__(keys[:2])
        sent = pickle.loads(pickle.dumps(dataset))
        for one, other in zip(dataset.__getitems__(keys), sent.__getitems__(keys), strict=True):
            assert torch.equal(one, other)


@pytest.mark.slow
def test_start_methods_give_the_same_predictions(synthetic, tmp_path):
    (tmp_path / "start.py").write_text(START)
    probs = {}
    for method in ("fork", "spawn", "forkserver"):
        for workers in (0, 2):
            name = f"{method}-{workers}"
            more = (
                "--data.prepared",
                tmp_path / "p",
                "--data.num_workers",
                workers,
                "--name",
                name,
                "--optim.epochs",
                1,
            )
            words = [sys.executable, tmp_path / "start.py", method, ROOT / "scripts" / "train.py"]
            words += tiny_args(synthetic, *more, "--data.augment", "strong")
            environ = os.environ | {"PYTHONHASHSEED": str(len(probs))}
            done = subprocess.run(list(map(str, words)), cwd=tmp_path, env=environ, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            probs[name] = load_predictions(tmp_path / "runs" / name / "oof.npz", True).probs
    for name, other in probs.items():
        assert np.array_equal(probs["fork-0"], other), name


@pytest.mark.slow
def test_submit_and_parallel_folds_with_forkserver(synthetic, tmp_path):
    (tmp_path / "start.py").write_text(START)
    start = [sys.executable, tmp_path / "start.py", "forkserver"]
    args = tiny_args(synthetic, "--data.prepared", tmp_path / "p", "--data.num_workers", 2, "--parallel-folds", 2)
    for words in ([ROOT / "scripts" / "train.py", *args], [ROOT / "scripts" / "submit.py", "demo"]):
        done = subprocess.run(list(map(str, [*start, *words])), cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert Path(tmp_path / "submissions" / "demo.csv").exists()
