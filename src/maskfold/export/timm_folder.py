"""Write a model as a folder that timm.create_model("local-dir:FOLDER", pretrained=True) loads."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskfold.config.experiment import Config, Data
from maskfold.fileio import write_json
from maskfold.labels import CLASS_NAMES, NUM_CLASSES
from maskfold.models.architecture import CFG_KEYS, LOAD_ERRORS, Architecture, find_architecture
from maskfold.models.classifier import Classifier
from maskfold.models.heads import FactoredHead, JointHead
from maskfold.runs.part_weights import write_weights

# Height and width of the competition's photos. timm's crop is a share of the photo, maskfold's a number of pixels.
PHOTO_SIZE = (512, 384)
# Largest difference of a logit between timm's model and ours for which they count as the same model.
MAX_LOGIT_DIFFERENCE = 1e-3
BACKBONE_PREFIX = "backbone."


def write_timm_folder(model: Classifier, config: Config, folder: Path) -> bool:
    """Write config.json and model.safetensors, and head.json and head.safetensors if timm has no place for the head.

    Returns whether the head is inside timm's model: it is for a joint head, unless timm's classifier of this backbone
    is more than one linear layer. Otherwise timm's model returns features, to which the head is applied.
    """
    architecture = (model.architecture or find_architecture(config.model.backbone)).with_weights()
    whole = _with_classifier(model, architecture, config.data)
    weights = model.backbone.state_dict() if whole is None else whole.state_dict()
    num_classes = 0 if whole is None else NUM_CLASSES
    write_json(folder / "config.json", timm_config(architecture, config.data, num_classes, model.backbone.num_features))
    write_weights(folder / "model.safetensors", weights)
    if whole is None:
        head = model.head
        content: dict[str, Any] = {"classes": list(CLASS_NAMES), "sizes": [NUM_CLASSES]}
        if isinstance(head, FactoredHead):
            content |= {"sizes": list(head.sizes), "bins_per_age_group": head.bins_per_group}
        write_json(folder / "head.json", content)
        write_weights(folder / "head.safetensors", {"weight": head.linear.weight, "bias": head.linear.bias})
    return whole is not None


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

    The mean of both sides if they differ, because timm has one number. It is 1 for the crops none and face: timm has
    no face detector.
    """
    if data.crop != "center":
        return 1.0
    shares = [min(1.0, crop / side) for crop, side in zip(data.crop_size, PHOTO_SIZE, strict=True)]
    return sum(shares) / len(shares)


def _with_classifier(model: Classifier, architecture: Architecture, data: Data) -> nn.Module | None:
    """timm's own model with the head as its classifier; None if the head is not timm's classifier of this backbone."""
    if not isinstance(model.head, JointHead):
        return None
    options: dict[str, Any] = {"num_classes": NUM_CLASSES}
    if architecture.pretrained_cfg.get("fixed_input_size"):
        options["img_size"] = data.image_size
    try:
        whole = architecture.create(options, pretrained=False).eval()
        names = architecture.pretrained_cfg["classifier"]
        state = dict(model.backbone.state_dict())
        # Distilled models have two classifiers, whose outputs timm averages.
        for name in (names,) if isinstance(names, str) else names:
            state[f"{name}.weight"], state[f"{name}.bias"] = model.head.linear.weight, model.head.linear.bias
        # In some models, the classifier is a convolution of one pixel.
        shapes = {name: tensor.shape for name, tensor in whole.state_dict().items()}
        whole.load_state_dict({name: tensor.detach().reshape(shapes[name]) for name, tensor in state.items()})
        return whole if _computes_the_same(whole, model, data) else None
    except LOAD_ERRORS:
        return None


@torch.inference_mode()
def _computes_the_same(whole: nn.Module, model: Classifier, data: Data) -> bool:
    model.eval()
    images = torch.randint(0, 256, (2, 3, *data.image_size), generator=torch.Generator().manual_seed(0))
    logits = whole(model.normalise(images.float()))
    return bool((logits.log_softmax(1) - model(images.float())).abs().max() <= MAX_LOGIT_DIFFERENCE)
