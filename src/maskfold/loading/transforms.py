"""Transforms from a stored photo to the model's input: RGB uint8 in, RGB uint8 out.

They do not normalise, because the model does so on the device.
"""

import random

import numpy as np

from maskfold.config.experiment import Data
from maskfold.loading.crops import resize

Seed = tuple[int, int]


class EvalTransform:
    """Resize RGB uint8 [H, W, 3] to uint8 [*image_size, 3], without augmentation; the seed has no effect."""

    def __init__(self, data: Data):
        self.image_size = data.image_size

    def __call__(self, image: np.ndarray, seed: Seed = (0, 0)) -> np.ndarray:
        return resize(image, self.image_size)


def sample_seeds(seed: int, epoch: int, rows: np.ndarray, visits: np.ndarray) -> list[Seed]:
    """Return a seed, two 64-bit numbers, for each row. It depends only on (seed, epoch, row, visit).

    `visit` is explained in PhotoBatchSampler. numpy's SeedSequence hashes seed and epoch into two keys. For each key,
    one pass of splitmix64 (Steele, Lea & Flood 2014) hashes the rows and visits of the whole batch, so that
    neighbouring rows get unrelated seeds.
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
    """A random.Random whose numbers come from a numpy bit generator.

    albumentations uses both Python's and numpy's random generators. With this class, the two share one state.
    """

    def __init__(self, bits: np.random.PCG64):
        self.bits = bits
        super().__init__()

    def random(self) -> float:
        return (self.bits.random_raw() >> 11) * 2.0**-53

    def getrandbits(self, k: int) -> int:
        words = -(-k // 64)
        return sum(self.bits.random_raw() << (64 * word) for word in range(words)) >> (64 * words - k)

    def seed(self, *_args: object) -> None:
        """Do nothing: the bit generator holds the state."""

    def __reduce__(self):
        return type(self), (self.bits,)


class TrainTransform:
    """Augment a photo and resize it to uint8 [*image_size, 3]. Equal seeds give equal results in every process."""

    def __init__(self, data: Data):
        # Imported only here, because importing albumentations takes a second and predictions do not need it.
        from maskfold.loading import augmentations

        self.data, self.compose = data, augmentations.compose(data)
        self.check = augmentations.check_augmented
        # All transforms share this generator, whose state is set for each photo. set_random_seed would instead create
        # two generators per transform for each photo.
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
    """Return the transform for training photos, as configured by data.augment."""
    return EvalTransform(data) if data.augment == "none" else TrainTransform(data)
