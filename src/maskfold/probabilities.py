"""Predictions on disk: probabilities are stored with the image ids and joined by id, never by position.

This module is in the lowest layer because training writes predictions that inference and evaluation read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, TypeVar, overload

import numpy as np

from maskfold.errors import UserError, first_line
from maskfold.fileio import check_expansion, check_readable, write_atomic
from maskfold.labels import NUM_CLASSES

OOF_FIELDS = ("label", "fold", "person_id")
AnyPredictions = TypeVar("AnyPredictions", bound="Predictions")


@dataclass(frozen=True)
class Predictions:
    """Class probabilities of photos.

    image_id: text [N]; probs: float32 [N, 18], each row sums to 1. Out-of-fold predictions also have label and fold,
    int [N], and person_id, text [N]. source: hashes of the checkpoints and the eval photos, as text, by which a stale
    cache is recognised. fold_probs: float32 [K, N, 18], the probabilities of the eval photos, predicted by the model of
    each of the K finished folds.
    """

    image_id: np.ndarray
    probs: np.ndarray
    label: np.ndarray | None = None
    fold: np.ndarray | None = None
    person_id: np.ndarray | None = None
    source: np.ndarray | None = None
    fold_probs: np.ndarray | None = None

    @property
    def pred_labels(self) -> np.ndarray:
        """The most probable label of each photo, int64 [N]."""
        return self.probs.argmax(1)

    def save(self, path: Path) -> None:
        arrays = {name: value for name, value in vars(self).items() if value is not None}
        for name in ("image_id", "person_id", "source"):
            if name in arrays:
                # numpy would pickle an array of dtype object.
                arrays[name] = np.asarray(arrays[name], dtype=np.str_)
        for name in ("probs", "fold_probs"):
            if name in arrays:
                arrays[name] = np.asarray(arrays[name], np.float32)
        write_atomic(path, lambda temporary: np.savez(temporary, **arrays))

    def aligned(self, image_id: Iterable[str]) -> Self:
        """The predictions of the photos `image_id`, in the same order. Raises KeyError for an unknown id."""
        rows = {name: row for row, name in enumerate(self.image_id)}
        order = np.array([rows[name] for name in image_id], int)
        fields = {
            name: value[order]
            for name in ("image_id", "probs", *OOF_FIELDS)
            if (value := getattr(self, name)) is not None
        }
        if self.fold_probs is not None:
            fields["fold_probs"] = self.fold_probs[:, order]
        return replace(self, **fields)


@dataclass(frozen=True)
class OutOfFold(Predictions):
    """Predictions of training photos by models that were not trained on them, with label, fold and person_id."""

    label: np.ndarray
    fold: np.ndarray
    person_id: np.ndarray


_FIX = "delete it and run the same command again"


@overload
def load_predictions(path: Path, out_of_fold: Literal[True], fix: str = _FIX) -> OutOfFold: ...


@overload
def load_predictions(path: Path, out_of_fold: bool = False, fix: str = _FIX) -> Predictions: ...


def load_predictions(path: Path, out_of_fold: bool = False, fix: str = _FIX) -> Predictions:
    """Read and check a file of predictions.

    Raises UserError if the file is missing, or if it is unreadable or invalid (the message then ends with `fix`).
    """
    try:
        check_expansion(path)
        with np.load(path, allow_pickle=False) as archive:
            fields = {name: archive[name] for name in archive.files if name in Predictions.__dataclass_fields__}
            predictions = OutOfFold(**fields) if out_of_fold else Predictions(**fields)
        fault = _format_fault(predictions, out_of_fold)
        _check_texts(predictions)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; finish training the run first") from None
    except Exception as error:
        check_readable(path)
        raise UserError(f"{path}: contains no readable predictions ({first_line(error)}); {fix}") from error
    if fault:
        raise UserError(f"{path}: {fault}; {fix}")
    return predictions


def _check_texts(predictions: Predictions) -> None:
    """Raise an error for invalid Unicode code points, which numpy reads but cannot convert to text."""
    for texts in (predictions.image_id, predictions.person_id, predictions.source):
        if texts is not None:
            "".join(map(str, texts.ravel().tolist())).encode()


def _format_fault(predictions: Predictions, out_of_fold: bool) -> str | None:
    n, probs = len(predictions.image_id), predictions.probs
    if predictions.image_id.ndim != 1 or n == 0 or predictions.image_id.dtype.kind != "U":
        return "image_id is not a non-empty 1-D array of text"
    if probs.dtype.kind != "f":
        return f"the dtype of probs is {probs.dtype}, not float"
    if probs.shape != (n, NUM_CLASSES):
        return f"the shape of probs is {probs.shape}, not {(n, NUM_CLASSES)}"
    if not _are_probabilities(probs):
        return "the rows of probs are not probabilities that sum to 1"
    fold_probs = predictions.fold_probs
    if fold_probs is not None:
        shape = fold_probs.shape
        if fold_probs.dtype.kind != "f" or len(shape) != 3 or shape[0] == 0 or shape[1:] != (n, NUM_CLASSES):
            return f"fold_probs is {fold_probs.dtype} {shape}, not float (number of folds, {n}, {NUM_CLASSES})"
        if not _are_probabilities(fold_probs):
            return "the rows of fold_probs are not probabilities that sum to 1"
    if len(np.unique(predictions.image_id)) < n:
        return "an image_id occurs twice"
    if not out_of_fold:
        return None
    columns = [getattr(predictions, name) for name in OOF_FIELDS]
    if any(column is None or column.shape != (n,) for column in columns):
        return f"out-of-fold predictions need {', '.join(OOF_FIELDS)} for each photo"
    labels, folds, people = columns
    if not (labels.dtype.kind == "i" and np.isin(labels, range(NUM_CLASSES)).all()):
        return f"labels are not whole numbers from 0 to {NUM_CLASSES - 1}"
    if folds.dtype.kind != "i" or folds.min() < 0 or people.dtype.kind != "U":
        return "folds are not whole numbers from 0, or person ids are not text"
    return None


def _are_probabilities(probs: np.ndarray) -> bool:
    """Whether all rows of floats [..., 18] are at least 0 and sum to 1."""
    return bool(np.allclose(probs.sum(-1), 1, atol=1e-3) and (probs >= 0).all())


def join(members: Sequence[AnyPredictions]) -> list[AnyPredictions]:
    """Restrict the members to the photos that all of them have, in the order of the first member.

    Raises UserError if they have no photo in common, or if two members have different labels for a photo.
    """
    common = set(members[0].image_id).intersection(*(member.image_id for member in members[1:]))
    if not common:
        raise UserError("the runs have no photo in common; give runs on the same data")
    ids = np.array([name for name in members[0].image_id if name in common])
    joined = [member.aligned(ids) for member in members]
    labels = [member.label for member in joined if member.label is not None]
    if any((other != labels[0]).any() for other in labels[1:]):
        raise UserError("the runs were trained with different labels (corrections); evaluate them separately")
    return joined


def same_labels(members: Sequence[OutOfFold]) -> bool:
    """Whether the members agree on the label of every photo they share; corrections may change labels."""
    label_by_id: dict[str, int] = {}
    pairs = ((name, label) for member in members for name, label in zip(member.image_id, member.label, strict=True))
    return all(label_by_id.setdefault(name, label) == label for name, label in pairs)


def mean(members: Sequence[AnyPredictions]) -> AnyPredictions:
    """The mean of the members' probabilities, joined by image id."""
    joined = join(members)
    probs = mean_probs([member.probs for member in joined])
    return replace(joined[0], probs=probs, source=None, fold_probs=None)


def mean_probs(probs: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """The mean of the probabilities of several models, [N, 18] each, as float32 [N, 18]; computed in float64."""
    return np.asarray(np.mean(probs, axis=0, dtype=np.float64), np.float32)
