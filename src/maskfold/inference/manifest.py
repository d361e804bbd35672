"""The manifest beside a submission: the models, data and parameters that it was made from."""

import math
from pathlib import Path

from maskfold.errors import UserError
from maskfold.fileio import read_json, read_json_or_none
from maskfold.labels import AXES

REQUIRED_KEYS = ("name", "members", "weights", "temperatures", "tta", "expected", "dataset", "eval", "csv_sha256")
FIX = "make the submission again from its runs"


def read_manifest(path: Path) -> dict:
    """Read and check a manifest. Raises UserError if the file is missing, damaged or not a manifest."""
    if path.suffix != ".json":
        raise UserError(f"{path}: not a manifest (.json); give the one beside the submission")
    manifest = read_json(path, FIX)
    if missing := [key for key in REQUIRED_KEYS if key not in manifest]:
        raise UserError(f"{path}: not a manifest, {missing[0]} is missing; {FIX}")
    members, tta = manifest["members"], manifest["tta"]
    # Manifests of older versions have no factors.
    if manifest.setdefault("factors", None) is not None and not _are_factors(manifest["factors"]):
        raise UserError(f"{path}: factors are not positive numbers for {', '.join(AXES)}; {FIX}")
    if not isinstance(tta, list) or not tta or not all(isinstance(view, str) for view in tta):
        raise UserError(f"{path}: tta is not a list of TTA views; {FIX}")
    if not isinstance(members, list) or not all(_are_numbers(manifest[key]) for key in ("weights", "temperatures")):
        raise UserError(f"{path}: members, weights and temperatures do not match; {FIX}")
    counts = {len(manifest[key]) for key in ("members", "weights", "temperatures") if isinstance(manifest[key], list)}
    if counts != {len(members)} or not all(isinstance(m, dict) and {"run", "checkpoints"} <= m.keys() for m in members):
        raise UserError(f"{path}: members, weights and temperatures do not match; {FIX}")
    return manifest


def _are_factors(factors: object) -> bool:
    if not isinstance(factors, dict) or list(factors) != list(AXES):
        return False
    return all(
        _are_numbers(values) and len(values) == len(AXES[axis]) and min(values) > 0 for axis, values in factors.items()
    )


def _are_numbers(values: object) -> bool:
    """Whether this is a list of finite numbers of at least 0."""
    return isinstance(values, list) and all(
        isinstance(value, int | float) and 0 <= value < math.inf for value in values
    )


def manifests_in(folder: Path) -> dict[Path, dict]:
    """The manifests of a folder by path; other JSON files are ignored."""
    manifests = {}
    for path in sorted(folder.glob("*.json")):
        content = read_json_or_none(path)
        if content is not None and "csv_sha256" in content:
            manifests[path] = content
    return manifests
