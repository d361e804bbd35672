"""Predictions on disk: probabilities travel with their photos' ids, and are joined by them, never by position.

Stands on the lowest floor since training writes what inference and analysis read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, TypeVar, overload

import numpy as np

from maskfold.errors import UserError, first_line
from maskfold.fileio import write_atomic
from maskfold.labels import NUM_CLASSES

OOF_FIELDS = ("label", "fold", "person_id")
Kind = TypeVar("Kind", bound="Predictions")


@dataclass(frozen=True)
class Predictions:
    """image_id [N] text, probs float32 [N, 18] with rows summing to 1; out-of-fold also label, fold, person_id [N].

    source: what predicted it (checkpoints' hashes), so that a cached file is known to be stale.
    """

    image_id: np.ndarray
    probs: np.ndarray
    label: np.ndarray | None = None
    fold: np.ndarray | None = None
    person_id: np.ndarray | None = None
    source: np.ndarray | None = None

    @property
    def answers(self) -> np.ndarray:
        """The most probable label of each photo, int64 [N]."""
        return self.probs.argmax(1)

    def save(self, path: Path) -> None:
        arrays = {name: value for name, value in vars(self).items() if value is not None}
        for name in ("image_id", "person_id", "source"):
            if name in arrays:
                # Never dtype object, which numpy would pickle.
                arrays[name] = np.asarray(arrays[name], dtype=np.str_)
        arrays["probs"] = np.asarray(self.probs, np.float32)
        write_atomic(path, lambda beside: np.savez(beside, **arrays))

    def aligned(self, image_id: Iterable[str]) -> Self:
        """The same predictions in the order of `image_id`. Raises KeyError for an id that is not there."""
        rows = {name: row for row, name in enumerate(self.image_id)}
        order = np.array([rows[name] for name in image_id], int)
        fields = {
            name: value[order]
            for name in ("image_id", "probs", *OOF_FIELDS)
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **fields)


@dataclass(frozen=True)
class OutOfFold(Predictions):
    """Predictions of training photos by models that have not seen them: label, fold and person_id are there."""

    label: np.ndarray
    fold: np.ndarray
    person_id: np.ndarray


@overload
def load_predictions(path: Path, out_of_fold: Literal[True]) -> OutOfFold: ...


@overload
def load_predictions(path: Path, out_of_fold: bool = False) -> Predictions: ...


def load_predictions(path: Path, out_of_fold: bool = False) -> Predictions:
    """Read and check a file. Raises UserError where it is missing, no such file, or breaks the format."""
    try:
        with np.load(path, allow_pickle=False) as held:
            fields = {name: held[name] for name in held.files if name in Predictions.__dataclass_fields__}
            found = OutOfFold(**fields) if out_of_fold else Predictions(**fields)
        broken = _broken(found, out_of_fold)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; train the run to its end first") from None
    except Exception as fault:
        raise UserError(
            f"{path}: no readable predictions ({first_line(fault)}); delete it and run the same command again"
        ) from fault
    if broken:
        raise UserError(f"{path}: {broken}; delete it and run the same command again")
    return found


def _broken(found: Predictions, out_of_fold: bool) -> str | None:
    n = len(found.image_id)
    if n == 0 or found.image_id.dtype.kind != "U" or found.probs.dtype.kind != "f":
        return "rows of text ids and float probs are expected"
    if found.probs.shape != (n, NUM_CLASSES):
        return f"probs are {found.probs.shape}, not {(n, NUM_CLASSES)}"
    if not np.allclose(found.probs.sum(1), 1, atol=1e-3) or (found.probs < 0).any():
        return "its rows are no probabilities"
    if len(np.unique(found.image_id)) < n:
        return "an image_id occurs twice"
    if out_of_fold and any(getattr(found, name) is None or len(getattr(found, name)) != n for name in OOF_FIELDS):
        return f"{', '.join(OOF_FIELDS)} are expected in out-of-fold predictions"
    labels = found.label if out_of_fold else None
    if labels is not None and not (labels.dtype.kind == "i" and np.isin(labels, range(NUM_CLASSES)).all()):
        return f"labels are not whole numbers from 0 to {NUM_CLASSES - 1}"
    return None


def join(members: Sequence[Kind]) -> list[Kind]:
    """The members in one order of ids, that of the first, over the photos that all of them have.

    Raises UserError where no photo is common, or where two members hold different labels for one photo.
    """
    common = set(members[0].image_id).intersection(*(member.image_id for member in members[1:]))
    if not common:
        raise UserError("the runs have no photo in common; give runs on the same data")
    ids = np.array([name for name in members[0].image_id if name in common])
    joined = [member.aligned(ids) for member in members]
    labels = [member.label for member in joined if member.label is not None]
    if any((other != labels[0]).any() for other in labels[1:]):
        raise UserError("the runs were trained with different labels (corrections); evaluate them apart")
    return joined


def same_labels(members: Sequence[OutOfFold]) -> bool:
    """Whether no photo that two of them share is labelled differently (by corrections)."""
    known: dict[str, int] = {}
    pairs = ((name, label) for member in members for name, label in zip(member.image_id, member.label, strict=True))
    return all(known.setdefault(name, label) == label for name, label in pairs)


def mean(members: Sequence[Kind]) -> Kind:
    """The mean of the members' probabilities, joined by id."""
    joined = join(members)
    probs = np.mean([member.probs for member in joined], axis=0, dtype=np.float64)
    return replace(joined[0], probs=np.asarray(probs, np.float32), source=None)
