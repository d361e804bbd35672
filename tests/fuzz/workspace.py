"""A small finished project, made by the verbs' own functions: data, a run with a checkpoint, a submission."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from conftest import plain_train_state
from photo_kinds import KINDS
from photo_mutations import PNG

from maskfold.config.experiment import Config
from maskfold.config.yaml_file import load_config
from maskfold.data.images_table import Prepared, load_prepared
from maskfold.fileio import write_json
from maskfold.inference.submission import make_submission
from maskfold.loading.feature_cache import Features
from maskfold.loading.photo_shift import SHIFT_FILE, SHIFT_VERSION
from maskfold.loading.store import open_store
from maskfold.models.classifier import Classifier, build_classifier
from maskfold.models.device import Hardware
from maskfold.runs.part_weights import write_weights
from maskfold.runs.run_folder import RunFolder
from maskfold.synthetic.demo_data import make_demo
from maskfold.training.checkpoints import pack_state, save_checkpoint
from maskfold.training.fit import fit_run
from maskfold.training.train_state import TrainState

# Larger photos have other bytes behind the picture, in which mutations change nothing.
MAX_PHOTO_BYTES = 30_000
PEOPLE, NAME, BACKBONE = 6, "tiny", "test_resnet"
CHECKPOINT_OWNER = "this run"


@dataclass(frozen=True)
class Workspace:
    """raw/, prepared/, runs/tiny with two folds, submissions/, weights/ and photos/ below one folder."""

    home: Path

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.home / "runs" / NAME)

    @cached_property
    def config(self) -> Config:
        return self.run.config

    @cached_property
    def prepared(self) -> Prepared:
        """The prepared folder as it was before any file was mutated."""
        return load_prepared(self.home / "prepared")

    @cached_property
    def classifier(self) -> Classifier:
        return build_classifier(self.config)

    @cached_property
    def train_state(self) -> TrainState:
        return plain_train_state(self.classifier, torch.optim.AdamW(self.classifier.parameters()), self.config)

    def read_features(self) -> np.ndarray:
        """Features of a frozen backbone, from the cache beside the store if it is there."""
        store = open_store(self.prepared, self.prepared.images, self.config.data)
        loaded = Features(self.classifier, [store], self.config.data, 16, 0)
        return loaded.view("none", Hardware(torch.device("cpu"), torch.float32))


def build_workspace(home: Path) -> Workspace:
    """Make the workspace. SM_MODEL_DIR must be home/runs and SM_OUTPUT_DATA_DIR home/submissions."""
    space = Workspace(home)
    make_demo(home / "raw", PEOPLE, PEOPLE, seed=1)
    config_path = home / "tiny.yaml"
    config_path.write_text(
        f"data: {{root: {home / 'raw'}, prepared: {home / 'prepared'}, folds: 2, image_size: [32, 32]}}\n"
        f"model: {{backbone: {BACKBONE}}}\n"
        "optim: {epochs: 2, warmup_epochs: 0, batch_size: 16}\n"
        "run: {device: cpu, wandb: disabled, predict_precision: fp32}\n"
    )
    fit_run(load_config(config_path), NAME)
    make_submission([space.run], ["none"], home / "submissions" / "tiny.csv")
    _write_optional_files(space)
    space.read_features()
    _write_weights(space)
    _write_photos(home / "photos")
    return space


def _write_optional_files(space: Workspace) -> None:
    """Files that a run or a prepared folder has only after certain commands, in the format of these commands."""
    run, prepared, people = space.run, space.prepared, space.prepared.people
    write_json(run.folder / "gain.json", {"gain": 0.01, "ci95": [0.0, 0.02], "from": ["tiny", "other"]})
    scores = {"macro_f1": 0.1, "accuracy": 0.2, "macro_f1_ci95": [0.0, 0.3]}
    rungs = {"most frequent class": scores, "nearest class mean": scores}
    write_json(prepared.folder / "baselines.json", {"dataset": prepared.meta["fingerprint"], "rungs": rungs})
    shift = {"auc": 0.9, "threshold": 0.6, "differs": True, "differences": ["blurrier", "darker"]}
    source = {key: prepared.meta[key] for key in ("fingerprint", "eval_fingerprint")}
    write_json(prepared.folder / SHIFT_FILE, {"version": SHIFT_VERSION} | source | {"shift": shift})
    sources = [{"run": "tiny", "part": "fold0", "checkpoint": "0" * 64}]
    write_json(
        run.folder / "fold0" / "pseudo.json", {"sources": sources, "views": ["none"], "threshold": 0.9, "of": 42}
    )
    lines = [f"{name},{row % 18},0.95" for row, name in enumerate(prepared.eval_table.image_id[:20])]
    (run.folder / "fold0" / "pseudo.csv").write_text("\n".join(["image_id,label,confidence", *lines]) + "\n")
    write_json(run.folder / "fold0" / "wandb.json", {"id": "abc", "offline": "wandb/x", "start_seconds": 1.0})
    rows = [
        f"{people.person_id[0]},gender,female,x",
        f"{people.person_id[1]},age,33,",
        f"{people.person_id[2]},swap,incorrect_mask|normal,",
    ]
    (space.home / "corrections.csv").write_text("\n".join(["person_id,field,value,reason", *rows]) + "\n")
    history = run.read_metrics("fold0")
    checkpoint = {"identity": CHECKPOINT_OWNER, "history": history, "step": 0, "sums": torch.zeros(3)}
    save_checkpoint(run, "full", checkpoint | {"train_state": pack_state(space.train_state)})
    for row in history:
        write_weights(
            run.state_path("full").parent / f"epoch-{row['epoch']}.safetensors", space.classifier.state_dict()
        )


def _write_weights(space: Workspace) -> None:
    """Weights as a user gives them: safetensors, torch.save files, and a model folder of timm."""
    folder, state = space.home / "weights", space.classifier.backbone.state_dict()
    folder.mkdir()
    write_weights(folder / "net.safetensors", state)
    torch.save({"state_dict": state, "epoch": 3}, folder / "net.pth")
    write_weights(folder / "model.safetensors", state)
    cfg = {
        "input_size": [3, 32, 32],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "num_classes": 0,
        "first_conv": "stem.conv",
        "classifier": "fc",
    }
    write_json(
        folder / "config.json", {"architecture": BACKBONE, "num_classes": 0, "num_features": 64, "pretrained_cfg": cfg}
    )


def _write_photos(folder: Path) -> None:
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    smooth = cv2.GaussianBlur(noise, (9, 9), 3)
    variants: dict[str, tuple[str, np.ndarray, list[int]]] = {
        "baseline": ("jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 80]),
        "progressive": ("jpg", smooth, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        "restart": ("jpg", noise, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
        "grey": ("jpg", smooth[..., 0], []),
        "rgb": ("png", smooth, []),
        "alpha": ("png", np.dstack([smooth, noise[..., 0]]), []),
        "deep": ("png", noise.astype(np.uint16) * 257, []),
        "bit": ("png", noise[..., 0] & 128, [cv2.IMWRITE_PNG_BILEVEL, 1]),
    }
    for name, (ending, image, flags) in variants.items():
        cv2.imwrite(str(folder / f"{name}.{ending}"), image, flags)
    for number, content in enumerate(KINDS.values()):
        if len(content) <= MAX_PHOTO_BYTES:
            ending = "png" if content.startswith(PNG) else "jpg"
            (folder / f"kind-{number:02}.{ending}").write_bytes(content)
