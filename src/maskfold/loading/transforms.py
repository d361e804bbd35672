"""Transforms from a stored photo to the model's input: RGB uint8 in, RGB uint8 out.

They do not normalise: the model's first layer does, on the device.
"""

import random

import numpy as np

from maskfold.config.experiment import Data
from maskfold.loading.crops import resize

Seed = tuple[int, int]


class EvalTransform:
    """Resize uint8 [H, W, 3] to uint8 [*image_size, 3]; for validation, out-of-fold and eval predictions."""

    def __init__(self, data: Data):
        self.image_size = data.image_size

    def __call__(self, image: np.ndarray, seed: Seed = (0, 0)) -> np.ndarray:
        return resize(image, self.image_size)


def sample_seeds(seed: int, epoch: int, rows: np.ndarray, visits: np.ndarray) -> list[Seed]:
    """Return a pair of 64-bit numbers for each row, which depends only on (seed, epoch, row, visit).

    The computation is vectorised over a batch: numpy's SeedSequence hashes seed and epoch, and one pass of splitmix64
    (Steele, Lea & Flood 2014) hashes row and visit, so that neighbouring rows get unrelated seeds.
    """
    keys = np.random.SeedSequence((seed, epoch)).generate_state(2, np.uint64)
    numbers = np.asarray(rows).astype(np.uint64) + (np.asarray(visits).astype(np.uint64) << np.uint64(32))
    hashes = []
    for key in keys:
        z = key + (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashes.append((z ^ (z >> np.uint64(31))).tolist())
    return list(zip(*hashes, strict=True))


class _Random(random.Random):
    """Python's random.Random on a numpy bit generator: albumentations uses both interfaces, so they share one state."""

    def __init__(self, bits: np.random.PCG64):
        self.bits = bits
        super().__init__()

    def random(self) -> float:
        return (self.bits.random_raw() >> 11) * 2.0**-53

    def getrandbits(self, k: int) -> int:
        words = -(-k // 64)
        return sum(self.bits.random_raw() << (64 * word) for word in range(words)) >> (64 * words - k)

    def seed(self, *_args: object) -> None:
        """Do nothing: the bit generator has the state."""

    def __reduce__(self):
        return type(self), (self.bits,)


class TrainTransform:
    """Augment a photo to uint8 [*image_size, 3]; the same seed gives the same result in every process."""

    def __init__(self, data: Data):
        # Imported only here, because albumentations takes a second and predictions do not need it.
        from maskfold.loading import augmentations

        self.data, self.compose = data, augmentations.compose(data)
        self.check = augmentations.check_augmented
        # All transforms share this generator, and each sample sets its state. set_random_seed would instead create two
        # generators per transform for every sample.
        self.bits = np.random.PCG64()
        self.compose.set_random_state(np.random.Generator(self.bits), _Random(self.bits))

    def __reduce__(self):
        # Another process builds the transforms again, because unpickled transforms would not share one generator.
        return type(self), (self.data,)

    def __call__(self, image: np.ndarray, seed: Seed) -> np.ndarray:
        self.bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": seed[0] << 64 | seed[1], "inc": 1},
            "has_uint32": 0,
            "uinteger": 0,
        }
        augmented = self.compose(image=image)["image"]
        self.check(augmented)
        return resize(augmented, self.data.image_size)


def make_train_transform(data: Data) -> EvalTransform | TrainTransform:
    """Return the transform that data.augment names."""
    return EvalTransform(data) if data.augment == "none" else TrainTransform(data)
