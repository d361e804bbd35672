"""The keys and types of dataset.json, the record of a prepared folder."""

from maskfold.json_record import Count, JsonRecord, PathText


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
    # Older versions did not write this key.
    skipped: SkippedPhotos | None = None
