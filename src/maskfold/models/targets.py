"""What a photo's loss is measured against: shares of the 18 classes and of the age bins, which mixing keeps linear."""

from typing import NamedTuple

import numpy as np
import torch

from maskfold.config.experiment import Config
from maskfold.labels import NUM_CLASSES, POSSIBLE_AGES, age_bins

UNKNOWN_AGE = 0


class Targets(NamedTuple):
    """classes float32 [B, 18]: shares that sum to the photo's weight, 0 for one that does not count. ages float32
    [B, A]: the same over the age bins, 0 where the age is not known.
    """

    classes: torch.Tensor
    ages: torch.Tensor

    def chunk(self, parts: int) -> list["Targets"]:
        return [Targets(*pair) for pair in zip(self.classes.chunk(parts), self.ages.chunk(parts), strict=True)]


def age_targets(bin_years: int, sigma: float) -> np.ndarray:
    """float32 [121, A]: row `age` is a Gaussian around that age in its shares of the bins; row UNKNOWN_AGE is 0.

    A person of 30 is anything from 29.5 to 30.5 years: the bin of 30 gets what the Gaussian has there, the first and
    the last one all that is beyond. Label distribution learning (Geng 2016; Gao et al. 2017, DLDL, eq. 5).
    """
    starts = age_bins(bin_years)
    if sigma == 0:
        own = np.digitize(np.arange(POSSIBLE_AGES.stop), starts[1:])
        targets = np.eye(len(starts))[own]
    else:
        edges = (starts[1:, None] - 0.5 - np.arange(POSSIBLE_AGES.stop)) / (sigma * 2**0.5)
        below = torch.erf(torch.from_numpy(edges)).numpy() / 2 + 0.5
        targets = np.diff(np.vstack([np.zeros_like(below[:1]), below, np.ones_like(below[:1])]), axis=0).T
    targets[UNKNOWN_AGE] = 0
    return targets.astype(np.float32)


class Truth:
    """Labels and ages of all rows, turned into the targets of a batch on its device.

    ages: int [N], UNKNOWN_AGE where not known; weights: float [N], what a photo counts in the loss.
    """

    def __init__(self, config: Config, ages: np.ndarray, weights: np.ndarray, device: torch.device | str):
        self.ages = torch.tensor(ages, device=device)
        self.weights = torch.tensor(weights, dtype=torch.float32, device=device)
        bins = age_targets(config.model.age_bin_years, config.loss.age_sigma)
        self.of_age = torch.tensor(bins, device=device)

    def __call__(self, labels: torch.Tensor, rows: torch.Tensor) -> Targets:
        """labels int64 [B], -1 where the photo does not count; rows int64 [B]."""
        weights = (self.weights[rows] * (labels >= 0))[:, None]
        classes = torch.nn.functional.one_hot(labels.clamp(min=0), NUM_CLASSES)
        return Targets(classes * weights, self.of_age[self.ages[rows]] * weights)
