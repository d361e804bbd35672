"""Grad-CAM (Selvaraju et al. 2017): which parts of a photo an answer rests on."""

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

# Photos that are looked at together: each keeps its activations for the way back.
AT_A_TIME = 4


class Shown(nn.Module):
    """A classifier whose last feature map [B, C, h, w] passes through `maps`, where Grad-CAM looks.

    A vision transformer reads the answer off its first token alone: there Grad-CAM looks at what the last block is
    given, tokens that `as_map` lays out as a map. Raises ValueError for a backbone that has no map.
    """

    def __init__(self, classifier: Classifier, size: tuple[int, int]):
        super().__init__()
        self.classifier, self.maps = classifier.eval(), nn.Identity()
        backbone = classifier.backbone
        # timm's word for the layout; models without it are [B, C, h, w].
        self.channels_last = str(getattr(backbone, "output_fmt", "NCHW")) == "NHWC"
        try:
            with torch.no_grad():
                shape = backbone.forward_features(torch.zeros(1, 3, *size, device=classifier.mean.device)).shape
            self.tokens = len(shape) == 3
            if self.tokens:
                self.grid = backbone.patch_embed.dynamic_feat_size(size)
                self.block = backbone.blocks[-1].norm1
        except (AttributeError, RuntimeError) as fault:
            raise ValueError(f"it makes no map of the photo ({first_line(fault)})") from fault

    @property
    def layer(self) -> nn.Module:
        """The module whose output is explained."""
        return self.block if self.tokens else self.maps

    def as_map(self, activations: torch.Tensor) -> torch.Tensor:
        """The layer's output -> [B, C, h, w]."""
        if not self.tokens:
            return activations
        # Class tokens go before those of the photo.
        patches = self.grid[0] * self.grid[1]
        return activations[:, -patches:].unflatten(1, self.grid).permute(0, 3, 1, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """RGB [B, 3, H, W] from 0 to 255 -> log-probabilities [B, 18]."""
        model = self.classifier
        # What comes before a map needs no gradient.
        with torch.set_grad_enabled(self.tokens):
            found = model.backbone.forward_features(model.normalise(images))
        if not self.tokens:
            found.requires_grad_()
            found = self.maps(found.permute(0, 3, 1, 2) if self.channels_last else found)
            found = found.permute(0, 2, 3, 1) if self.channels_last else found
        return model.head(model.backbone.forward_head(found))


@dataclass(frozen=True)
class LogOdds:
    """What is explained: log p - log(1 - p) of an answer, whose gradient does not vanish where the answer is sure."""

    answer: int

    def __call__(self, log_probs: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [18] -> []."""
        others = torch.arange(len(log_probs), device=log_probs.device) != self.answer
        return log_probs[self.answer] - log_probs[others].logsumexp(0)


def heatmaps(run: RunFolder, asked: Iterable[tuple[int, np.ndarray, int]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(photo uint8 [H, W, 3] as the model sees it, heat float32 [H, W] from 0 to 1) of each (fold, photo, answer).

    photo: the store's uint8 RGB. The fold's own model is asked, which has not learned from its photos. Raises
    ImportError without the extra `explain`, ValueError for a backbone without a feature map.
    """
    from pytorch_grad_cam import GradCAM

    asked, config = list(asked), run.config
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    # A dozen photos: a GPU may be busy training, or not be here.
    device, view = torch.device("cpu"), EvalTransform(config.data)
    for fold in sorted({fold for fold, _, _ in asked}):
        mine = [at for at, (of, _, _) in enumerate(asked) if of == fold]
        shown = Shown(finished_model(run, config, fold_name(fold), device), config.data.image_size)
        with GradCAM(shown, [shown.layer], shown.as_map) as cam:
            for start in range(0, len(mine), AT_A_TIME):
                some = mine[start : start + AT_A_TIME]
                seen = np.stack([view(asked[at][1]) for at in some])
                images = torch.from_numpy(seen).permute(0, 3, 1, 2)
                heat = cam(images.float(), [LogOdds(asked[at][2]) for at in some])
                found |= {at: (seen[n], heat[n]) for n, at in enumerate(some)}
    return [found[at] for at in range(len(asked))]
