"""Write a model as a folder that timm.create_model("local-dir:FOLDER", pretrained=True) loads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskfold.config.experiment import Config, Data
from maskfold.data.raw_layout import PHOTO_SIZE
from maskfold.errors import UserError
from maskfold.fileio import write_json
from maskfold.labels import CLASS_NAMES, NUM_CLASSES
from maskfold.models.architecture import CFG_KEYS, LOAD_ERRORS, Architecture, find_architecture
from maskfold.models.classifier import Classifier
from maskfold.models.heads import FactoredHead, JointHead
from maskfold.models.prediction_loop import OUTPUTS
from maskfold.models.timm_library import timm
from maskfold.runs.part_weights import Weights, write_weights

# Largest difference between the outputs of timm's model and ours for which they count as the same model: of a
# probability, or of a feature relative to the largest feature.
MAX_TIMM_DIFFERENCE = 1e-5

Output = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def write_timm_folder(model: Classifier, config: Config, folder: Path) -> bool:
    """Write config.json and model.safetensors, and head.json and head.safetensors if timm has no place for the head.

    Returns whether the head is inside timm's model: it is for a joint head, unless timm's classifier of this backbone
    is more than one linear layer. Otherwise timm's model returns features, to which the head is applied. timm loads
    the folder again for a comparison. Raises UserError if timm's model computes something else.
    """
    architecture, data = model.architecture or find_architecture(config.model.backbone), config.data
    weights = _weights_with_classifier(model, architecture, data)
    if weights is not None:
        _write_model(folder, architecture, data, weights, NUM_CLASSES, model.backbone.num_features)
        if _loads_as(folder, model, data, lambda loaded, images: loaded(images).softmax(1), OUTPUTS["probs"]):
            return True
    _write_model(folder, architecture, data, model.backbone.state_dict(), 0, model.backbone.num_features)
    if not _loads_as(folder, model, data, lambda loaded, images: loaded(images), OUTPUTS["features"]):
        raise UserError(
            f"model.backbone {architecture.name}: timm builds another model from the exported weights; train another "
            "backbone, or use the run in Python (maskfold.load_run)"
        )
    head = model.head
    content: dict[str, Any] = {"classes": list(CLASS_NAMES), "sizes": [NUM_CLASSES]}
    if isinstance(head, FactoredHead):
        content |= {"sizes": list(head.sizes), "bins_per_age_group": head.bins_per_group}
    write_json(folder / "head.json", content)
    write_weights(folder / "head.safetensors", {"weight": head.linear.weight, "bias": head.linear.bias})
    return False


def _write_model(
    folder: Path, architecture: Architecture, data: Data, weights: Weights, num_classes: int, num_features: int
) -> None:
    write_json(folder / "config.json", timm_config(architecture, data, num_classes, num_features))
    write_weights(folder / "model.safetensors", weights)


def timm_config(architecture: Architecture, data: Data, num_classes: int, num_features: int) -> dict[str, Any]:
    """The content of config.json, as timm's save_for_hf writes it."""
    known = {key: architecture.pretrained_cfg[key] for key in CFG_KEYS if key in architecture.pretrained_cfg}
    pretrained_cfg = known | {
        "input_size": [3, *data.image_size],
        "num_classes": num_classes,
        "interpolation": "bilinear",
        "crop_pct": crop_pct(data),
        # Like maskfold, squash resizes height and width independently. timm's default keeps the aspect ratio.
        "crop_mode": "squash",
        "custom_load": False,
    }
    content: dict[str, Any] = {
        "architecture": architecture.name.partition(".")[0],
        "num_classes": num_classes,
        "num_features": num_features,
        "pretrained_cfg": pretrained_cfg,
    }
    if architecture.args:
        content["model_args"] = architecture.args
    if num_classes:
        content["label_names"] = list(CLASS_NAMES)
    return content


def crop_pct(data: Data) -> float:
    """The share of a photo's sides that timm's transform keeps: that of the centre crop of a photo of PHOTO_SIZE.

    timm's crop is a share of the photo, maskfold's a number of pixels.
    The mean of both sides if they differ, because timm has one number. It is 1 for the crops none and face: timm has
    no face detector.
    """
    if data.crop != "center":
        return 1.0
    shares = [min(1.0, crop / side) for crop, side in zip(data.crop_size, PHOTO_SIZE, strict=True)]
    return sum(shares) / len(shares)


def _weights_with_classifier(model: Classifier, architecture: Architecture, data: Data) -> Weights | None:
    """The weights of timm's own model with the head as its classifier; None if the head does not fit there."""
    if not isinstance(model.head, JointHead):
        return None
    options: dict[str, Any] = {"num_classes": NUM_CLASSES}
    if architecture.pretrained_cfg.get("fixed_input_size"):
        options["img_size"] = data.image_size
    try:
        expected = architecture.create(options, pretrained=False).state_dict()
        names = architecture.pretrained_cfg["classifier"]
        weights = dict(model.backbone.state_dict())
        # Distilled models have two classifiers, whose outputs timm averages.
        for name in (names,) if isinstance(names, str) else names:
            weights[f"{name}.weight"], weights[f"{name}.bias"] = model.head.linear.weight, model.head.linear.bias
        # In some models, the classifier is a convolution of one pixel.
        weights = {name: tensor.detach().reshape(expected[name].shape) for name, tensor in weights.items()}
    except LOAD_ERRORS:
        return None
    return weights if weights.keys() == expected.keys() else None


@torch.inference_mode()
def _loads_as(folder: Path, model: Classifier, data: Data, theirs: Output, ours: Output) -> bool:
    """Whether timm loads the folder as a model with the same outputs."""
    try:
        loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    except LOAD_ERRORS:
        return False
    images = torch.randint(0, 256, (2, 3, *data.image_size), generator=torch.Generator().manual_seed(0))
    actual, expected = theirs(loaded, model.normalise(images)), ours(model.eval(), images)
    if actual.shape != expected.shape:
        return False
    return bool((actual - expected).abs().max() <= MAX_TIMM_DIFFERENCE * max(1.0, float(expected.abs().max())))
