"""The configurations in configs/ build their backbones and make an update, on smaller photos to save time."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from maskfold.config.yaml_file import load_config


@pytest.mark.slow
@pytest.mark.parametrize(("file", "side"), [("swin_large", 96), ("efficientnet_b4", 64), ("convnext_tiny", 64)])
def test_a_config_makes_an_update(script, synthetic, file, side):
    """One update on 42 photos from random weights, with the loss, mixing, crop and accumulation of the configuration."""
    args = ["--data.root", synthetic, "--data.folds", 2, "--folds", 0, "--data.image_size", side, side]
    args += ["--model.pretrained", "false", "--optim.epochs", 1, "--optim.warmup_epochs", 0, "--optim.batch_size", 42]
    done = script("train", ROOT / "configs" / f"{file}.yaml", *args, "--run.wandb", "disabled", "--run.device", "cpu")
    assert done.code == 0, done.err
    [row] = [json.loads(line) for line in Path(f"runs/{file}/fold0/metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(row["train_loss"])
    assert row["train_loss"] > 0


def test_configs_of_published_solutions_have_the_published_values():
    """Backbone, size, crop, loss or mixing, learning rate and epochs."""
    swin, b4 = (load_config(ROOT / "configs" / f"{name}.yaml") for name in ("swin_large", "efficientnet_b4"))
    assert swin.model.backbone.startswith("swin_large_patch4_window12_384")
    assert swin.data.image_size == (384, 384)
    assert (swin.data.crop, swin.data.crop_size) == ("center", (320, 256))
    assert (swin.loss.name, swin.optim.lr, swin.optim.epochs) == ("soft_f1", 2e-5, 5)
    assert b4.model.backbone.endswith("efficientnet_b4")
    assert (b4.data.image_size, b4.data.crop) == ((380, 380), "face")
    assert (b4.mix.name, b4.mix.partner) == ("half_cutmix", "old")
