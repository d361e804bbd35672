"""A hash of everything that a submission or report is made from, computed without reading photos or importing pandas.

Whole files of a run and of its prepared folder are hashed instead of selected values, so that no value that a page or
submission shows is missed. The code and the versions of the libraries are hashed too.
"""

import csv
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from maskfold.data.dataset_record import data_identity
from maskfold.data.images_table import (
    EVAL_FILE,
    FOLDS_FILE,
    IMAGES_FILE,
    META_FILE,
    read_fold_by_person,
    read_meta,
)
from maskfold.data.raw_layout import find_eval_dir, find_root, name_in_eval_images
from maskfold.errors import UserError
from maskfold.fileio import read_json_or_none, sha256
from maskfold.inference.cached_predictions import checkpoint_hashes, prediction_paths
from maskfold.inference.ensemble_gain import load_gain
from maskfold.inference.submission_index import has_valid_row
from maskfold.models.tta import canonical_views
from maskfold.places import recorded_path
from maskfold.runs.code_state import code_hash, package_versions
from maskfold.runs.run_data import prepared_candidates
from maskfold.runs.run_folder import RunFolder

# The libraries whose version may change a submission or a page.
LIBRARIES = ("torch", "timm", "albumentations", "opencv-python", "numpy", "pandas", "scipy", "matplotlib", "grad-cam")


def is_unchanged_submission(
    runs: Sequence[RunFolder], tta: Sequence[str], out: Path, blend: str, decision: str
) -> bool:
    """Whether `out`, its manifest and its row in the index are those that make_submission would write now."""
    manifest = read_json_or_none(out.with_suffix(".json"))
    # A submission that was renamed has another name in its manifest and in the index.
    if manifest is None or manifest.get("name") != out.stem or not out.is_file():
        return False
    views = canonical_views(tta, "--tta")
    members = manifest.get("members")
    members = members if isinstance(members, list) else []
    folders = [member.get("folder") for member in members if isinstance(member, dict)]
    if (
        manifest.get("csv_sha256") != sha256(out)
        or folders != [str(recorded_path(run.folder)) for run in runs]
        or not has_valid_row(out.parent, manifest)
    ):
        return False
    inputs = submission_inputs(runs, views, blend, decision)
    return inputs is not None and manifest.get("inputs") == inputs_record(inputs, manifest)


def inputs_record(inputs: str, manifest: dict) -> str:
    """The value of the key `inputs` of a manifest: the hash of the inputs, and that of all other keys.

    The second hash shows whether somebody has edited the manifest.
    """
    content = json.dumps({key: value for key, value in manifest.items() if key != "inputs"}, sort_keys=True)
    return f"{inputs} {hashlib.sha256(content.encode()).hexdigest()}"


def submission_inputs(runs: Sequence[RunFolder], views: Sequence[str], blend: str, decision: str) -> str | None:
    """The hash of what a submission is made from; None if something is missing, such as cached predictions."""
    return _hash_of(lambda: [[_run_files(run, views, True) for run in runs], load_gain(runs), blend, decision])


def report_inputs(runs: Sequence[RunFolder]) -> str | None:
    """The hash of what the pages about runs show; None if something is missing."""
    return _hash_of(lambda: [[_run_files(run, ("none",), False), load_gain([run])] for run in runs])


def _hash_of(inputs: Any) -> str | None:
    """Hash the result of inputs(), the code and the library versions. Return None if inputs() raises an error."""
    try:
        content = [inputs(), code_hash(), package_versions(LIBRARIES)]
    except (UserError, OSError, KeyError, TypeError, ValueError, StopIteration, csv.Error):
        return None
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _run_files(run: RunFolder, views: Sequence[str], with_eval: bool) -> list:
    """The name of a run, its TTA views, and the hashes of its files and of its data.

    with_eval: also hash the files of the eval set, and raise an error if cached predictions are missing.
    """
    run.check_unedited()
    files = [run.folder / name for name in ("config.yaml", "provenance.json", "oof.npz")]
    files += [run.part_dir(part) / "metrics.jsonl" for part in run.finished_parts]
    hashes: list = [run.name, list(views), checkpoint_hashes(run), [sha256(path) for path in files]]
    for paths in prediction_paths(run, tuple(views)):
        path = next((path for path in paths if path.exists()), None)
        if path is None and with_eval:
            raise FileNotFoundError(paths[0])
        hashes.append(path and sha256(path))
    return [*hashes, *_data_hashes(run, with_eval)]


def _data_hashes(run: RunFolder, with_eval: bool) -> list:
    """The metadata of the prepared folder and the hashes of its files. with_eval: also hash eval.csv and info.csv.

    Raises StopIteration if the prepared folder is not found.
    """
    identity = run.provenance["identity"]
    folder = next(folder for folder in prepared_candidates(run) if _identity_of(folder) == identity)
    files = [folder / name for name in (IMAGES_FILE, FOLDS_FILE)]
    files += [folder / EVAL_FILE, _find_info(run, folder)] if with_eval else []
    record = read_meta(folder)
    # Keys without an effect on the results are left out: for example, a moved project has other paths.
    meta = {key: value for key, value in record.items() if key not in ("root", "eval", "checked_by", "tables")}
    # A report shows the name of the raw data folder.
    shown = None if with_eval else PurePath(record["root"]).name
    return [meta, shown, [sha256(path) for path in files]]


def _identity_of(folder: Path) -> str:
    return data_identity(read_meta(folder)["fingerprint"], read_fold_by_person(folder))


def _find_info(run: RunFolder, folder: Path) -> Path:
    """The path of info.csv, wherever the raw data is now."""
    meta = read_meta(folder)
    first, photo = _first_row(folder / IMAGES_FILE), _first_row(folder / EVAL_FILE)

    def find_raw() -> Path:
        return find_root(Path(meta["root"]), folder / META_FILE, PurePosixPath(first["path"]).parent, run.places)

    name = name_in_eval_images(photo["image_id"], photo["path"])
    return find_eval_dir(Path(meta["eval"]), folder / META_FILE, name, find_raw, run.places) / "info.csv"


def _first_row(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.DictReader(file))
