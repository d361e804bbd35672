"""Read the manifest of a submission: the models, data and parameters that the submission was made from."""

import math
from pathlib import Path
from typing import Annotated

from pydantic import Field

from maskfold.errors import UserError
from maskfold.fileio import read_json, read_json_or_none
from maskfold.json_record import Interval, JsonRecord, PathText, check_record
from maskfold.labels import AXES

REMAKE_SUBMISSION = "make the submission again from its runs"


class MemberRecord(JsonRecord):
    """A run of an ensemble: its name, its folder when the submission was made, and the hash of each model's weights."""

    run: PathText
    folder: PathText = ""
    checkpoints: dict[str, str]


class SubmissionExpectation(JsonRecord):
    """The expected score of the submission itself. It includes `gain`, the gain over one fold's models."""

    macro_f1: float
    interval95: Interval
    gain: float
    gain_std_error: float


class Expected(JsonRecord):
    """The expected scores; board95 is the 95 % interval of the score on the eval set.

    board95 and `submission` are None without an eval set. Older manifests have no `submission`.
    """

    macro_f1: float
    board95: Interval | None
    submission: SubmissionExpectation | None = None
    submission_half95: Interval | None = None


class ExpectedOnly(JsonRecord):
    """A manifest of which only the expected score is read."""

    expected: Expected


class Manifest(ExpectedOnly):
    """The keys that read_manifest needs, except `factors`, which it checks itself."""

    name: str
    members: Annotated[list[MemberRecord], Field(min_length=1)]
    weights: list[Annotated[float, Field(ge=0)]]
    temperatures: list[Annotated[float, Field(gt=0)]]
    tta: Annotated[list[str], Field(min_length=1)]
    dataset: str
    eval: str
    csv_sha256: str


def read_manifest(path: Path) -> dict:
    """Read and check a manifest. Raises UserError if the file is missing, damaged or not a manifest."""
    if path.suffix != ".json":
        raise UserError(f"{path}: not a manifest (.json); give the .json file next to the submission")
    manifest = read_json(path, REMAKE_SUBMISSION)
    if "members" not in manifest:
        raise UserError(f"{path}: not a manifest, since the key members is missing; {REMAKE_SUBMISSION}")
    check_record(path, manifest, Manifest, REMAKE_SUBMISSION)
    # Manifests of older versions have no factors.
    if manifest.setdefault("factors", None) is not None and not _are_factors(manifest["factors"]):
        raise UserError(f"{path}: factors are not positive numbers for {', '.join(AXES)}; {REMAKE_SUBMISSION}")
    if len({len(manifest[key]) for key in ("members", "weights", "temperatures")}) > 1:
        raise UserError(f"{path}: members, weights and temperatures do not match; {REMAKE_SUBMISSION}")
    return manifest


def _are_factors(factors: object) -> bool:
    if not isinstance(factors, dict) or list(factors) != list(AXES):
        return False
    return all(
        _are_numbers(values) and len(values) == len(AXES[axis]) and min(values) > 0 for axis, values in factors.items()
    )


def _are_numbers(values: object) -> bool:
    """Whether `values` is a list of finite numbers of at least 0."""
    return isinstance(values, list) and all(
        isinstance(value, int | float) and 0 <= value < math.inf for value in values
    )


def manifests_in(folder: Path) -> dict[Path, dict]:
    """Return {path: content} of the manifests in a folder; other JSON files are ignored."""
    manifests = {}
    for path in sorted(folder.glob("*.json")):
        content = read_json_or_none(path)
        if content is not None and "csv_sha256" in content:
            manifests[path] = content
    return manifests
