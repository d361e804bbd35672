"""The configurations in configs/ build their backbones and make an update, on smaller photos to save time."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
from conftest import ROOT

from maskfold.config.experiment import replaced
from maskfold.config.yaml_file import load_config
from maskfold.models.classifier import build_classifier
from maskfold.models.input_size import check_input_size

CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
# Models whose patch or window does not divide 64.
SIDES = {"swin_large": 96, "eva02_frozen": 56, "eva02_finetune": 56}
# Licence of the weights by the first part of a backbone's name in timm: (in the file, in timm's pretrained_cfg).
LICENCES = {
    "convnextv2": ("CC BY-NC 4.0", "cc-by-nc-4.0"),
    "eva02": ("MIT", "mit"),
    "vit_base_patch16_siglip": ("Apache 2.0", "apache-2.0"),
    "vit_base_patch16_dinov3": ("DINOv3 License", "dinov3-license"),
}
MODERN = [f"{name}_{kind}" for name in ("convnextv2", "eva02", "siglip2", "dinov3") for kind in ("frozen", "finetune")]


def recipe(name):
    return load_config(ROOT / "configs" / f"{name}.yaml")


def marked(file):
    # The largest model takes longer than all the others together.
    return pytest.param(file, marks=pytest.mark.long if file == "swin_large" else pytest.mark.slow)


@pytest.mark.parametrize("file", [marked(name) for name in CONFIGS if name not in ("demo", "resnet18")])
def test_a_config_makes_an_update(script, synthetic, file):
    """One update on 42 photos from random weights, with the loss, mixing, crop and accumulation of the configuration."""
    side = SIDES.get(file, 64)
    args = ["--data.root", synthetic, "--data.folds", 2, "--folds", 0, "--data.image_size", side, side]
    args += ["--model.pretrained", "false", "--optim.epochs", 1, "--optim.warmup_epochs", 0, "--optim.batch_size", 42]
    done = script("train", ROOT / "configs" / f"{file}.yaml", *args, "--run.wandb", "disabled", "--run.device", "cpu")
    assert done.code == 0, done.err
    [row] = [json.loads(line) for line in Path(f"runs/{file}/fold0/metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(row["train_loss"])
    assert row["train_loss"] > 0
    # Hundreds of MB of weights, which pytest would keep.
    shutil.rmtree("runs")


@pytest.mark.slow
@pytest.mark.parametrize("file", CONFIGS)
def test_the_model_of_a_config_sees_the_whole_photo(file):
    """At the size of the configuration, from random weights."""
    config = replaced(recipe(file), model={"pretrained": False})
    check_input_size(build_classifier(config), config)


@pytest.mark.parametrize("file", CONFIGS)
def test_a_config_begins_with_what_it_is_and_its_score(file):
    config, first = recipe(file), (ROOT / "configs" / f"{file}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert re.match(r"# \S.*(Score: not measured yet\.|macro F1 about [\d.]+\.)$", first)
    timm.get_pretrained_cfg(config.model.backbone)


@pytest.mark.parametrize("file", MODERN)
def test_a_recent_backbone_is_given_with_its_weights_and_their_licence(file):
    config, first = recipe(file), (ROOT / "configs" / f"{file}.yaml").read_text(encoding="utf-8").splitlines()[0]
    [(in_file, in_timm)] = [names for start, names in LICENCES.items() if config.model.backbone.startswith(start)]
    assert f"Weights: {config.model.backbone}, licence: {in_file}" in first
    # timm 1.0.20 has no licence for SigLIP 2, and a shorter name for DINOv3's.
    licence = timm.get_pretrained_cfg(config.model.backbone).license
    assert in_timm.startswith(licence or "")
    assert config.model.pretrained
    if file.endswith("frozen"):
        assert config.uses_cached_features
    else:
        assert config.optim.layer_decay < 1
        assert config.optim.lr <= 1e-4
        assert config.optim.accum_steps == "auto"


def test_configs_of_published_solutions_have_the_published_values():
    """Backbone, size, crop, loss or mixing, learning rate and epochs."""
    swin, b4 = (recipe(name) for name in ("swin_large", "efficientnet_b4"))
    assert swin.model.backbone.startswith("swin_large_patch4_window12_384")
    assert swin.data.image_size == (384, 384)
    assert (swin.data.crop, swin.data.crop_size) == ("center", (320, 256))
    assert (swin.loss.name, swin.optim.lr, swin.optim.epochs) == ("soft_f1", 2e-5, 5)
    assert b4.model.backbone.endswith("efficientnet_b4")
    assert (b4.data.image_size, b4.data.crop) == ((380, 380), "face")
    assert (b4.mix.name, b4.mix.partner) == ("half_cutmix", "old")
