"""The albumentations for training, and the view of everything else; uint8 RGB in, uint8 RGB out.

Normalisation is the model's first layer, so a photo meets it once, on the device.
"""

import random

import albumentations as A
import numpy as np

from maskfold.config.experiment import Data
from maskfold.loading.augmentations import check_photo, pipeline
from maskfold.loading.crops import resize

Seed = tuple[int, int]


class EvalTransform:
    """The preprocessing of validation, out-of-fold prediction and eval alike: image -> uint8 [*image_size, 3]."""

    def __init__(self, data: Data):
        self.image_size = data.image_size

    def __call__(self, image: np.ndarray, seed: Seed = (0, 0)) -> np.ndarray:
        return resize(image, self.image_size)


def sample_seeds(seed: int, epoch: int, rows: np.ndarray, visits: np.ndarray) -> list[Seed]:
    """Two 64-bit numbers for each row, of (seed, epoch, row, visit) alone, for a whole batch at once.

    numpy's SeedSequence mixes seed and epoch, a pass of splitmix64 (Steele, Lea & Flood 2014) the rows: their low bits,
    which differ least, reach all others.
    """
    keys = np.random.SeedSequence((seed, epoch)).generate_state(2, np.uint64)
    numbers = np.asarray(rows).astype(np.uint64) + (np.asarray(visits).astype(np.uint64) << np.uint64(32))
    mixed = []
    for key in keys:
        z = key + (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed.append((z ^ (z >> np.uint64(31))).tolist())
    return list(zip(*mixed, strict=True))


class _Random(random.Random):
    """Python's interface to numpy's bits, so that one state, quickly set, decides all that albumentations draws."""

    def __init__(self, bits: np.random.PCG64):
        self.bits = bits
        super().__init__()

    def random(self) -> float:
        return (self.bits.random_raw() >> 11) * 2.0**-53

    def getrandbits(self, k: int) -> int:
        words = -(-k // 64)
        return sum(self.bits.random_raw() << (64 * word) for word in range(words)) >> (64 * words - k)

    def seed(self, *_args: object) -> None:
        """Its state is the bits' own."""

    def __reduce__(self):
        return type(self), (self.bits,)


class TrainTransform:
    """image, seed -> augmented uint8 [*image_size, 3]; the same seed gives the same augmentation in any process."""

    def __init__(self, data: Data):
        self.data, self.compose = data, A.Compose(pipeline(data), strict=True)
        # All transforms draw from this one, reseeded in place: set_random_seed builds a pair for each, every sample.
        self.bits = np.random.PCG64()
        self.compose.set_random_state(np.random.Generator(self.bits), _Random(self.bits))

    def __reduce__(self):
        # Built anew in another process: its generator, and all that draw from it, must stay one object.
        return type(self), (self.data,)

    def __call__(self, image: np.ndarray, seed: Seed) -> np.ndarray:
        self.bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": seed[0] << 64 | seed[1], "inc": 1},
            "has_uint32": 0,
            "uinteger": 0,
        }
        seen = self.compose(image=image)["image"]
        check_photo(seen)
        return resize(seen, self.data.image_size)


def train_transform(data: Data) -> EvalTransform | TrainTransform:
    return EvalTransform(data) if data.augment == "none" else TrainTransform(data)
