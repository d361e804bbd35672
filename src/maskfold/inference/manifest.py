"""The manifest beside a submission: what made it, so that it can be traced, compared and rebuilt."""

import json
import math
from pathlib import Path

from maskfold.errors import UserError
from maskfold.fileio import read_json
from maskfold.labels import AXES

NEEDED = ("name", "members", "weights", "temperatures", "tta", "expected", "dataset", "eval", "csv_sha256")
MEND = "make the submission again from its runs"


def read_manifest(path: Path) -> dict:
    """Raises UserError where it is missing, broken, or no manifest."""
    if path.suffix != ".json":
        raise UserError(f"{path}: a manifest ends in .json; give the one beside the submission")
    held = read_json(path, MEND)
    if missing := [key for key in NEEDED if key not in held]:
        raise UserError(f"{path}: no manifest, {missing[0]} is missing; {MEND}")
    members = held["members"]
    # A manifest of before there were decisions has none.
    if held.setdefault("factors", None) is not None and not _are_factors(held["factors"]):
        raise UserError(f"{path}: its factors are not positive numbers for {', '.join(AXES)}; {MEND}")
    if not isinstance(held["tta"], list) or not held["tta"] or not all(isinstance(view, str) for view in held["tta"]):
        raise UserError(f"{path}: its tta is no list of views; {MEND}")
    if not isinstance(members, list) or not all(_are_numbers(held[key]) for key in ("weights", "temperatures")):
        raise UserError(f"{path}: its members, weights and temperatures do not belong together; {MEND}")
    counts = {len(held[key]) for key in ("members", "weights", "temperatures") if isinstance(held[key], list)}
    if counts != {len(members)} or not all(isinstance(m, dict) and {"run", "checkpoints"} <= m.keys() for m in members):
        raise UserError(f"{path}: its members, weights and temperatures do not belong together; {MEND}")
    return held


def _are_factors(held: object) -> bool:
    if not isinstance(held, dict) or list(held) != list(AXES):
        return False
    return all(_are_numbers(of) and len(of) == len(AXES[axis]) and min(of) > 0 for axis, of in held.items())


def _are_numbers(held: object) -> bool:
    """A list of finite numbers, none under 0."""
    return isinstance(held, list) and all(isinstance(of, int | float) and 0 <= of < math.inf for of in held)


def manifests_in(folder: Path) -> dict[Path, dict]:
    """Manifests of a folder by their path; other JSON files are passed over."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(held, dict) and "csv_sha256" in held:
            found[path] = held
    return found
