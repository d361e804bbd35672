"""Targets of the losses: shares of the 18 classes and of the age bins. Mixing interpolates them linearly."""

from typing import NamedTuple

import numpy as np
import torch

from maskfold.config.experiment import Config
from maskfold.labels import MAX_AGE, NUM_CLASSES, POSSIBLE_AGES, age_bins

UNKNOWN_AGE = 0


class Targets(NamedTuple):
    """The targets of a batch.

    classes: float32 [B, 18]; a row sums to the photo's weight, and is 0 for a photo without a label. ages: float32
    [B, A], the same for the A age bins; a row is also 0 if the age is unknown.
    """

    classes: torch.Tensor
    ages: torch.Tensor

    def chunk(self, chunks: int) -> list["Targets"]:
        return [Targets(*pair) for pair in zip(self.classes.chunk(chunks), self.ages.chunk(chunks), strict=True)]


def age_targets(bin_years: int, sigma: float, truncated: bool = False) -> np.ndarray:
    """Return the age targets, float32 [121, A]: row `age` is a Gaussian around that age, integrated over each bin.

    This is label distribution learning (Geng 2016; Gao et al. 2017, DLDL, eq. 5). Row UNKNOWN_AGE is 0. An age of 30
    years stands for 29.5 to 30.5, so bin edges lie at half years. The first and the last bin are open-ended.

    bin_years: years per bin. sigma: standard deviation in years; 0 puts all weight on the age's own bin. truncated:
    whether ages in the last bin have all their weight in it. If not, an age of 60 has .4 of its weight below 60 at
    sigma 2, although a recorded age of 60 can also stand for any higher age.
    """
    starts = age_bins(bin_years)
    if sigma == 0:
        own_bin = np.digitize(np.arange(POSSIBLE_AGES.stop), starts[1:])
        targets = np.eye(len(starts))[own_bin]
    else:
        edges = (starts[1:, None] - 0.5 - np.arange(POSSIBLE_AGES.stop)) / (sigma * 2**0.5)
        cdf = torch.erf(torch.from_numpy(edges)).numpy() / 2 + 0.5
        targets = np.diff(np.vstack([np.zeros_like(cdf[:1]), cdf, np.ones_like(cdf[:1])]), axis=0).T
    if truncated:
        targets[MAX_AGE:] = np.eye(len(starts))[-1]
    targets[UNKNOWN_AGE] = 0
    return targets.astype(np.float32)


class TargetEncoder:
    """Convert the labels and rows of a batch to Targets on `device`.

    ages: int [N] of all photos, UNKNOWN_AGE if not known. weights: float [N], the weights of the photos in the loss.
    """

    def __init__(self, config: Config, ages: np.ndarray, weights: np.ndarray, device: torch.device | str):
        self.ages = torch.tensor(ages, device=device)
        self.weights = torch.tensor(weights, dtype=torch.float32, device=device)
        bins = age_targets(config.model.age_bin_years, config.loss.age_sigma, config.loss.age_truncated)
        self.age_targets = torch.tensor(bins, device=device)

    def __call__(self, labels: torch.Tensor, rows: torch.Tensor) -> Targets:
        """Return the Targets of a batch.

        labels: int64 [B], -1 for a photo without a label. rows: int64 [B], indices into `ages` and `weights`.
        """
        weights = (self.weights[rows] * (labels >= 0))[:, None]
        classes = torch.nn.functional.one_hot(labels.clamp(min=0), NUM_CLASSES)
        return Targets(classes * weights, self.age_targets[self.ages[rows]] * weights)
