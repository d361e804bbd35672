"""A classifier two-sample test (Lopez-Paz & Oquab 2017), known on Kaggle as adversarial validation.

A classifier tries to tell training photos from eval photos by some statistics of each photo. Its cross-validated AUC is
0.5 if it cannot, and 1 if the photos differ completely.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import rankdata

from maskfold.labels import PHOTOS_PER_PERSON

FOLDS = 5
# Fewest people on each side of a comparison.
MIN_COMPARED_PEOPLE = 10
# Random splits of the training people, which show the AUC of photos that do not differ.
SPLITS = 60
# Comparisons with the eval photos, each with other training people; their mean AUC is reported.
COMPARISONS = 5
# The threshold is this many standard deviations above the mean of the random splits, and at least MIN_THRESHOLD.
DEVIATIONS = 3.0
MIN_THRESHOLD = 0.6
# Clips the AUC of a random split, so that its logit is finite.
MAX_AUC = 0.999
# Standardised statistics are clipped to this, so that a few extreme photos do not decide.
MAX_STANDARDISED = 5.0
# Added to the variances of the standardised statistics, many of which are correlated.
RIDGE = 0.1


@dataclass(frozen=True)
class TwoSample:
    """auc: of the classifier; threshold: photos differ if the AUC is above it."""

    auc: float
    threshold: float

    @property
    def differs(self) -> bool:
        return self.auc > self.threshold


def enough_people(num_train_people: int, num_eval_photos: int) -> bool:
    """Whether a training set with so many people and an eval set with so many photos can be compared."""
    num_eval_people = round(num_eval_photos / PHOTOS_PER_PERSON)
    return num_eval_people >= MIN_COMPARED_PEOPLE and num_train_people >= 2 * MIN_COMPARED_PEOPLE


def compare_samples(
    train: np.ndarray, people: np.ndarray, evaluation: np.ndarray, num_eval_people: int, seed: int = 0
) -> TwoSample | None:
    """Compare statistics of training photos [N, S] of `people` [N] with those of eval photos [M, S].

    num_eval_people: people in the eval set. The eval photos are a random sample of their photos, the training photos
    one of all photos of `people`. None for fewer than 2 * MIN_COMPARED_PEOPLE people in training or MIN_COMPARED_PEOPLE
    in the eval set.

    Each training person is in one fold. Nobody knows which eval photos show one person, so an eval person with several
    photos is in several folds, and the AUC of photos that do not differ is above 0.5 and varies more than that of
    independent photos. By how much is measured: in random splits, some training people take the place of the eval set,
    and their photos are assigned to folds as eval photos are. These splits are like the comparison if a person has as
    many photos in the training sample as in the eval sample. More photos of each training person raise the threshold.
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
        taken = rng.permutation(num_people)[person] < num_compared
        return _cross_validated_auc(train[~taken], person[~taken], train[taken], rng)

    def eval_auc() -> float:
        taken = rng.permutation(num_people)[person] < num_compared
        photos = rng.permutation(len(evaluation))[: taken.sum()]
        return _cross_validated_auc(train[~taken], person[~taken], evaluation[photos], rng)

    # As logits, since with few people the standard deviation is large and the threshold must stay below 1.
    by_chance = logit(np.clip([random_auc() for _ in range(SPLITS)], 1 - MAX_AUC, MAX_AUC))
    threshold = max(MIN_THRESHOLD, expit(by_chance.mean() + DEVIATIONS * by_chance.std(ddof=1)))
    return TwoSample(float(np.mean([eval_auc() for _ in range(COMPARISONS)])), float(threshold))


def auc(low: np.ndarray, high: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a value of `high` exceeds one of `low`, where ties count half."""
    ranks = rankdata(np.concatenate([low, high]))[len(low) :]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(low) * len(high)))


def _standardise(statistics: np.ndarray) -> np.ndarray:
    """Each column [N, S] with mean 0 and standard deviation 1, clipped; a constant column becomes 0."""
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
