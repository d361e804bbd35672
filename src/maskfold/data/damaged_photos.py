"""Report all photos that cannot be read, or leave them out (prepare.py --skip-damaged)."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2

from maskfold.data.decode import inspect_photo
from maskfold.progress import parallel_map

if TYPE_CHECKING:
    import pandas as pd


def _checked_by() -> str:
    try:
        simplejpeg = version("simplejpeg")
    except PackageNotFoundError:
        # Without it, JPEGs cannot be checked, but PNGs can.
        simplejpeg = "none"
    return f"check 1, opencv {cv2.__version__}, simplejpeg {simplejpeg}"


# The versions of the check and of the libraries that decide whether a photo can be read. Increase the check number when
# inspect_photo accepts or rejects other photos than before.
CHECKED_BY = _checked_by()
SKIP_HINT = "; prepare.py --skip-damaged leaves out photos that cannot be read"
# The hint if an existing folds.csv contains people who would be left out.
SKIP_ELSEWHERE_HINT = f"{SKIP_HINT}; use it with another --out, because existing folds are never changed"


class CheckedPhotos(NamedTuple):
    """A table of photos and the result of their check.

    hashes: the sha1 of each file. faults: for each photo, what is wrong with it, or None.
    """

    table: pd.DataFrame
    hashes: list[str]
    faults: list[str | None]

    def messages(self, root: Path) -> list[str]:
        """Return a message for each photo that cannot be read."""
        pairs = zip(self.table.path, self.faults, strict=True)
        return [f"{root / path}: {fault}" for path, fault in pairs if fault]

    def damaged(self) -> list[dict[str, str]]:
        """Return image_id, path and reason of each photo that cannot be read."""
        rows = zip(self.table.image_id, self.table.path, self.faults, strict=True)
        return [{"image_id": name, "path": path, "reason": fault} for name, path, fault in rows if fault]

    def kept(self, keep: pd.Series) -> CheckedPhotos:
        """Return only the rows for which `keep` is true."""
        return CheckedPhotos(
            self.table[keep.to_numpy(bool)].reset_index(drop=True),
            [sha1 for sha1, flag in zip(self.hashes, keep, strict=True) if flag],
            [fault for fault, flag in zip(self.faults, keep, strict=True) if flag],
        )


def check_photos(table: pd.DataFrame, root: Path) -> CheckedPhotos:
    """Read and decode every photo of a table."""
    checked = list(parallel_map(lambda path: inspect_photo(root / path), list(table.path), "reading photos", "photos"))
    return CheckedPhotos(table, [sha1 for sha1, _ in checked], [fault for _, fault in checked])


def leave_out(train: CheckedPhotos, evaluation: CheckedPhotos) -> tuple[CheckedPhotos, CheckedPhotos, dict | None]:
    """Leave out eval photos that cannot be read, and all seven photos of each person who has an unreadable photo.

    Returns (remaining training photos, remaining eval photos, skipped). skipped is None if nothing was left out, else
    {"people": person_ids, "train": rows, "eval": rows}. Each row is a photo that cannot be read, with the keys
    image_id, path and reason.
    """
    import pandas as pd

    is_unreadable = pd.Series([fault is not None for fault in train.faults], train.table.index, bool)
    people = sorted(set(train.table.person_id[is_unreadable]))
    skipped = {"people": people, "train": train.damaged(), "eval": evaluation.damaged()}
    if not (people or skipped["eval"]):
        return train, evaluation, None
    is_readable = pd.Series([fault is None for fault in evaluation.faults], evaluation.table.index, bool)
    return train.kept(~train.table.person_id.isin(people)), evaluation.kept(is_readable), skipped


def describe_skipped(skipped: dict | None) -> list[str]:
    """Return lines of text that list what was left out. skipped: as returned by leave_out."""
    if skipped is None:
        return []
    lines = []
    if skipped["people"]:
        count = len(skipped["people"])
        people = "1 person is" if count == 1 else f"{count} people are"
        lines.append(f"warning: {people} left out, with all their photos, because a photo cannot be read:")
        lines += [f"  {row['path']}: {row['reason']}" for row in skipped["train"]]
    if skipped["eval"]:
        count = len(skipped["eval"])
        photos = "1 eval photo is" if count == 1 else f"{count} eval photos are"
        lines.append(f"warning: {photos} left out; a submission gives them the most frequent class:")
        lines += [f"  {row['path']}: {row['reason']}" for row in skipped["eval"]]
    return lines


def skipped_people(meta: dict) -> list[str]:
    """Return the person_ids of the people who were left out; meta: the content of dataset.json."""
    return _skipped(meta, "people")


def skipped_eval_ids(meta: dict) -> list[str]:
    """Return the ImageIDs of the eval photos that were left out; meta: the content of dataset.json."""
    return [row["image_id"] for row in _skipped(meta, "eval")]


def _skipped(meta: dict, key: str) -> list:
    # Older versions did not write this key.
    return (meta.get("skipped") or {key: []})[key]
