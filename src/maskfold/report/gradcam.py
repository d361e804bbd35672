"""Grad-CAM (Selvaraju et al. 2017): the parts of a photo that a prediction depends on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from maskfold.errors import first_line
from maskfold.loading.transforms import EvalTransform
from maskfold.models.classifier import Classifier
from maskfold.runs.part_weights import finished_model
from maskfold.runs.run_folder import RunFolder, fold_name

# Photos per backward pass. A larger batch needs more memory, because the activations of all its photos are kept.
BATCH_SIZE = 4


class GradcamModel(nn.Module):
    """A classifier, and the layer whose output Grad-CAM turns into a heat map.

    In a convolutional network, `layer` passes on the last feature map [B, C, h, w]. A vision transformer may predict
    from its class token alone, and then its other tokens have no gradient after the last attention. In a transformer,
    `layer` is therefore the normalisation before this attention, and `as_map` arranges its patch tokens as a map.

    size: (height, width) of the input. Raises ValueError for a backbone without a feature map.
    """

    def __init__(self, classifier: Classifier, size: tuple[int, int]):
        super().__init__()
        self.classifier, self.maps = classifier.eval(), nn.Identity()
        backbone = classifier.backbone
        # timm names the layout in output_fmt; models without it return [B, C, h, w].
        self.channels_last = str(getattr(backbone, "output_fmt", "NCHW")) == "NHWC"
        try:
            with torch.no_grad():
                shape = backbone.forward_features(torch.zeros(1, 3, *size, device=classifier.mean.device)).shape
            self.tokens = len(shape) == 3
            if self.tokens:
                self.grid = backbone.patch_embed.dynamic_feat_size(size)
                self.block = backbone.blocks[-1].norm1
        except (AttributeError, RuntimeError) as error:
            raise ValueError(f"the backbone has no feature map ({first_line(error)})") from error

    @property
    def layer(self) -> nn.Module:
        """The module whose output Grad-CAM uses."""
        return self.block if self.tokens else self.maps

    def as_map(self, activations: torch.Tensor) -> torch.Tensor:
        """Arrange the output of `layer` as a map [B, C, h, w]."""
        if not self.tokens:
            return activations
        # The class token and register tokens come before the patch tokens.
        patches = self.grid[0] * self.grid[1]
        return activations[:, -patches:].unflatten(1, self.grid).permute(0, 3, 1, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """RGB [B, 3, H, W] from 0 to 255 -> log-probabilities [B, 18]."""
        model = self.classifier
        # Without tokens, Grad-CAM needs gradients of the feature map but not of the backbone.
        with torch.set_grad_enabled(self.tokens):
            features = model.backbone.forward_features(model.normalise(images))
        if not self.tokens:
            features.requires_grad_()
            features = self.maps(features.permute(0, 3, 1, 2) if self.channels_last else features)
            features = features.permute(0, 2, 3, 1) if self.channels_last else features
        return model.head(model.backbone.forward_head(features))


@dataclass(frozen=True)
class LogOdds:
    """The target of Grad-CAM: log p - log(1 - p) of a class. Its gradient does not vanish if p is near 1."""

    class_index: int

    def __call__(self, log_probs: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [18] -> scalar []."""
        is_other = torch.arange(len(log_probs), device=log_probs.device) != self.class_index
        return log_probs[self.class_index] - log_probs[is_other].logsumexp(0)


def heatmaps(run: RunFolder, requests: Iterable[tuple[int, np.ndarray, int]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (model input uint8 [H, W, 3], heat map float32 [H, W] from 0 to 1) for each request, in order.

    requests: (fold of the photo's person, stored photo in uint8 RGB, class index). The model of this fold, which was
    not trained on the person, is explained. Raises ImportError if the extra `explain` is not installed, ValueError for
    a backbone without a feature map, UserError if the weights of a fold are missing.
    """
    from pytorch_grad_cam import GradCAM

    requests, config = list(requests), run.config
    result_by_index: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    # A dozen photos do not need a GPU, which may be in use or absent.
    device, transform = torch.device("cpu"), EvalTransform(config.data)
    for fold in sorted({fold for fold, _, _ in requests}):
        indices = [index for index, (request_fold, _, _) in enumerate(requests) if request_fold == fold]
        model = GradcamModel(finished_model(run, config, fold_name(fold), device), config.data.image_size)
        with GradCAM(model, [model.layer], model.as_map) as cam:
            for start in range(0, len(indices), BATCH_SIZE):
                batch = indices[start : start + BATCH_SIZE]
                inputs = np.stack([transform(requests[index][1]) for index in batch])
                images = torch.from_numpy(inputs).permute(0, 3, 1, 2)
                maps = cam(images.float(), [LogOdds(requests[index][2]) for index in batch])
                result_by_index |= {index: (inputs[row], maps[row]) for row, index in enumerate(batch)}
    return [result_by_index[index] for index in range(len(requests))]
