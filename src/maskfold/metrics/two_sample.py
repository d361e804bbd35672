"""A classifier two-sample test (Lopez-Paz & Oquab 2017), known on Kaggle as adversarial validation.

A classifier tries to distinguish training photos from eval photos by some statistics of each photo. Its cross-validated
AUC is 0.5 if it cannot distinguish them, and 1 if they differ completely.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import rankdata

from maskfold.labels import PHOTOS_PER_PERSON

FOLDS = 5
# Minimum number of people on each side of a comparison.
MIN_COMPARED_PEOPLE = 10
# Number of random splits of the training people. The splits show which AUC to expect if the photos do not differ.
SPLITS = 60
# Number of comparisons with the eval photos, each with different training people. Their mean AUC is reported.
COMPARISONS = 5
# The threshold is this many standard deviations above the mean of the random splits, and at least MIN_THRESHOLD.
DEVIATIONS = 3.0
MIN_THRESHOLD = 0.6
# The AUC of a random split is clipped to 1 - MAX_AUC..MAX_AUC, so that its logit is finite.
MAX_AUC = 0.999
# Standardised statistics are clipped at plus and minus this value, so that a few extreme photos do not dominate.
MAX_STANDARDISED = 5.0
# Added to the variances of the standardised statistics, because many statistics are correlated.
RIDGE = 0.1


@dataclass(frozen=True)
class TwoSample:
    """The result of the test. auc: the AUC of the classifier; threshold: the photos differ if `auc` is above it."""

    auc: float
    threshold: float

    @property
    def differs(self) -> bool:
        return self.auc > self.threshold


def enough_people(num_train_people: int, num_eval_photos: int) -> bool:
    """Whether a training set of num_train_people people and an eval set of num_eval_photos photos can be compared."""
    num_eval_people = round(num_eval_photos / PHOTOS_PER_PERSON)
    return num_eval_people >= MIN_COMPARED_PEOPLE and num_train_people >= 2 * MIN_COMPARED_PEOPLE


def compare_samples(
    train: np.ndarray, people: np.ndarray, evaluation: np.ndarray, num_eval_people: int, seed: int = 0
) -> TwoSample | None:
    """Compare statistics of training photos, float [N, S], with those of eval photos, float [M, S].

    people: [N], the person of each training photo. num_eval_people: the number of people in the eval set. Both sets of
    photos may be random samples. Returns None if there are too few people (see enough_people).

    All photos of a training person are in one fold. The photos of an eval person are in several folds, because it is
    unknown which eval photos show the same person. Therefore the AUC is above 0.5 even if the photos do not differ, and
    it varies more than it would with independent photos. Random splits of the training people measure both effects: the
    photos of some training people are assigned to folds like eval photos, and compared with the photos of the others.
    The comparison with the real eval photos has as many people on each side as these splits. The training sample should
    have as many photos per person as the eval sample, because more photos per training person raise the threshold.
    """
    _, person = np.unique(people, return_inverse=True)
    num_people = len(np.unique(person))
    if not enough_people(num_people, len(evaluation)):
        return None
    num_compared = min(num_eval_people, num_people // 2)
    rng = np.random.default_rng(seed)
    standardised = _standardise(np.concatenate([train, evaluation]))
    train, evaluation = standardised[: len(train)], standardised[len(train) :]

    def random_auc() -> float:
        held_out = rng.permutation(num_people)[person] < num_compared
        return _cross_validated_auc(train[~held_out], person[~held_out], train[held_out], rng)

    def eval_auc() -> float:
        held_out = rng.permutation(num_people)[person] < num_compared
        photos = rng.permutation(len(evaluation))[: held_out.sum()]
        return _cross_validated_auc(train[~held_out], person[~held_out], evaluation[photos], rng)

    # Logits are used because the standard deviation is large with few people, and the threshold must stay below 1.
    random_logits = logit(np.clip([random_auc() for _ in range(SPLITS)], 1 - MAX_AUC, MAX_AUC))
    threshold = max(MIN_THRESHOLD, expit(random_logits.mean() + DEVIATIONS * random_logits.std(ddof=1)))
    return TwoSample(float(np.mean([eval_auc() for _ in range(COMPARISONS)])), float(threshold))


def auc(low: np.ndarray, high: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a value of `high` exceeds a value of `low`. A tie counts half."""
    ranks = rankdata(np.concatenate([low, high]))[len(low) :]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(low) * len(high)))


def _standardise(statistics: np.ndarray) -> np.ndarray:
    """Scale each column of [N, S] to mean 0 and standard deviation 1, and clip it. A constant column becomes 0."""
    deviations = statistics.std(0)
    standardised = (statistics - statistics.mean(0)) / np.where(deviations > 0, deviations, 1)
    return standardised.clip(-MAX_STANDARDISED, MAX_STANDARDISED)


def _cross_validated_auc(
    train: np.ndarray, person: np.ndarray, evaluation: np.ndarray, rng: np.random.Generator
) -> float:
    """Mean AUC over the folds, to which training people and eval photos are assigned at random."""
    _, person = np.unique(person, return_inverse=True)
    fold_of_train = (rng.permutation(person.max() + 1) % FOLDS)[person]
    fold_of_eval = rng.permutation(len(evaluation)) % FOLDS
    aucs = []
    for fold in range(FOLDS):
        direction = _discriminant(train[fold_of_train != fold], evaluation[fold_of_eval != fold])
        aucs.append(auc(train[fold_of_train == fold] @ direction, evaluation[fold_of_eval == fold] @ direction))
    return float(np.mean(aucs))


def _discriminant(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Fisher's linear discriminant [S] of two samples [N, S] and [M, S], with a ridge."""
    within = (np.cov(first.T) + np.cov(second.T)) / 2
    return np.linalg.solve(within + RIDGE * np.eye(len(within)), second.mean(0) - first.mean(0))
