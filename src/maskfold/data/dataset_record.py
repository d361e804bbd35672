"""The keys and types of dataset.json, the record of a prepared folder, and the hashes that identify its content."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maskfold.fileio import write_text
from maskfold.json_record import Count, JsonRecord, PathText

if TYPE_CHECKING:
    import pandas as pd


class AppliedCorrections(JsonRecord):
    """The report of apply_corrections(), with the hash of the corrections file."""

    file: str
    changed: list[str]
    already_so: Count
    not_in_data: list[str]
    sha256: str


class Counts(JsonRecord):
    """Numbers of people, photos and folds."""

    people: Count
    images: Count
    eval_images: Count
    folds: Count


class SkippedPhoto(JsonRecord):
    """A photo that cannot be read."""

    image_id: str
    path: str
    reason: str


class SkippedPhotos(JsonRecord):
    """People who were left out because one of their photos cannot be read, and all unreadable photos."""

    people: list[str]
    train: list[SkippedPhoto]
    eval: list[SkippedPhoto]


class DatasetRecord(JsonRecord):
    """The keys of dataset.json that are read."""

    root: PathText
    eval: PathText
    counts: Counts
    fingerprint: str
    eval_fingerprint: str
    fold_seed: Count | None
    corrections: AppliedCorrections | None
    warnings: list[str]
    # Older versions did not write these keys. tables: the SHA-256 of each table, by file name.
    skipped: SkippedPhotos | None = None
    checked_by: str | None = None
    tables: dict[str, str] | None = None


def fingerprint(table: "pd.DataFrame", hashes: Sequence[str]) -> str:
    """Hash the ids, labels (if any) and photos of a table to 16 hex digits; paths are not included.

    hashes: sha1 of each photo.
    """
    digest = hashlib.sha256()
    for name, sha1 in zip(table.image_id, hashes, strict=True):
        digest.update(f"{name} {sha1}\n".encode())
    if "label" in table:
        digest.update(" ".join(map(str, table.label)).encode())
    return digest.hexdigest()[:16]


def data_identity(fingerprint: str, fold_by_person: Mapping[str, int | str]) -> str:
    """Hash the photos, the labels and each person's fold to 16 hex digits.

    fingerprint: the value in dataset.json, a hash of photos and labels. fold_by_person: {person_id: fold}.
    """
    lines = "\n".join(f"{person} {fold_by_person[person]}" for person in sorted(fold_by_person))
    return hashlib.sha256(f"{fingerprint}\n{lines}".encode()).hexdigest()[:16]


def write_changed(texts: dict[Path, str | None], record: Path, record_text: str) -> None:
    """Write the tables (None: delete the file), then dataset.json. A file that already has its text is not written.

    texts: by path. record: the path of dataset.json.
    """
    changed = {path: text for path, text in texts.items() if not _has_text(path, text)}
    if changed:
        # dataset.json is deleted first. Otherwise, if the process were killed while the tables are replaced, new labels
        # would have the old fingerprint.
        record.unlink(missing_ok=True)
    for path, text in changed.items():
        if text is None:
            path.unlink()
        else:
            write_text(path, text)
    # dataset.json is written last: if it exists, the tables are complete.
    if not _has_text(record, record_text):
        write_text(record, record_text)


def _has_text(path: Path, text: str | None) -> bool:
    return not path.exists() if text is None else path.is_file() and path.read_bytes() == text.encode()
