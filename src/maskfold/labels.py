"""The 18 classes. Only this module knows how a label is composed.

label = mask * 6 + gender * 3 + age group, with
mask 0 worn, 1 incorrect, 2 not worn; gender 0 male, 1 female; age group 0 under 30, 1 from 30 to 59, 2 at least 60.
"""

from itertools import pairwise

import numpy as np

MASKS = ("worn", "incorrect", "not worn")
GENDERS = ("male", "female")
AGE_GROUPS = ("<30", "30-59", ">=60")
AXES = {"mask": MASKS, "gender": GENDERS, "age": AGE_GROUPS}
NUM_CLASSES = len(MASKS) * len(GENDERS) * len(AGE_GROUPS)
NUM_STRATA = len(GENDERS) * len(AGE_GROUPS)
CLASS_NAMES = tuple(f"{mask}, {gender}, {age}" for mask in MASKS for gender in GENDERS for age in AGE_GROUPS)

# The photos of a person: file stem -> class index of the mask axis.
KIND_MASK = {"mask1": 0, "mask2": 0, "mask3": 0, "mask4": 0, "mask5": 0, "incorrect_mask": 1, "normal": 2}
PHOTOS_PER_PERSON = len(KIND_MASK)

AGE_BORDERS = (30, 60)
POSSIBLE_AGES = range(1, 121)
# The range of a distribution over ages. Its first bin also holds all younger ages, its last bin all older ones.
MIN_AGE, MAX_AGE = 18, AGE_BORDERS[-1]


def age_group(age):
    """Age in years (int or array) -> age group: 0 under 30, 1 from 30 to 59, 2 at least 60."""
    return np.digitize(age, AGE_BORDERS)


def encode_label(mask, gender, age):
    """Class indices of the three axes (ints or arrays that broadcast) -> label 0..17.

    Raises ValueError if an index is out of range.
    """
    for name, value in (("mask", mask), ("gender", gender), ("age", age)):
        if np.any(np.asarray(value) < 0) or np.any(np.asarray(value) >= len(AXES[name])):
            raise ValueError(f"{name} index outside 0..{len(AXES[name]) - 1}")
    return (np.asarray(mask) * len(GENDERS) + np.asarray(gender)) * len(AGE_GROUPS) + np.asarray(age)


def decode_label(label):
    """Label 0..17 (int or array) -> (mask, gender, age group) indices. Raises ValueError outside 0..17."""
    label = np.asarray(label)
    if np.any(label < 0) or np.any(label >= NUM_CLASSES):
        raise ValueError(f"label outside 0..{NUM_CLASSES - 1}")
    rest, age = np.divmod(label, len(AGE_GROUPS))
    mask, gender = np.divmod(rest, len(GENDERS))
    return mask, gender, age


def stratum(label):
    """Label 0..17 -> gender x age group of the person, 0..5; the same for all seven photos of a person."""
    return np.asarray(label) % NUM_STRATA


def is_old(label):
    """Label 0..17 -> whether the person is in the oldest age group."""
    return decode_label(label)[2] == len(AGE_GROUPS) - 1


def age_bins(years: int) -> np.ndarray:
    """First age of each bin, int [A]. The bins cover 18 to 60+ in steps of `years`.

    No bin crosses a border between age groups. The first bin also holds all younger ages, the last bin all older ones.
    years=1 gives 43 bins, years=30 the three age groups.
    """
    borders = (MIN_AGE, *AGE_BORDERS)
    starts = [np.arange(low, high, years) for low, high in pairwise(borders)]
    return np.concatenate([*starts, [MAX_AGE]])


def joint_log_probs(mask, gender, age):
    """Log-probabilities of mask [N, 3], gender [N, 2] and age group [N, 3] -> log-probabilities of classes, [N, 18].

    The axes are treated as independent, so their log-probabilities are added. Accepts numpy arrays and torch tensors.
    """
    return (mask[:, :, None, None] + gender[:, None, :, None] + age[:, None, None, :]).reshape(-1, NUM_CLASSES)


def marginals(probs):
    """Probabilities [N, 18] -> {'mask': [N, 3], 'gender': [N, 2], 'age': [N, 3]}, summed over the other two axes."""
    cube = np.asarray(probs).reshape(-1, len(MASKS), len(GENDERS), len(AGE_GROUPS))
    return {"mask": cube.sum((2, 3)), "gender": cube.sum((1, 3)), "age": cube.sum((1, 2))}
