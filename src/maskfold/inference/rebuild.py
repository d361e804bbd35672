"""Rebuild a submission from its manifest."""

import contextlib
from pathlib import Path

from maskfold.errors import UserError
from maskfold.fileio import check_output, sha256
from maskfold.inference.blend import apply_blend
from maskfold.inference.cached_predictions import checkpoint_hashes
from maskfold.inference.cross_fit import BlendParams
from maskfold.inference.manifest import read_manifest
from maskfold.inference.submission import submission_table, write_submission
from maskfold.models.tta import canonical_views
from maskfold.places import Places, is_found, possible_paths
from maskfold.runs.run_folder import RunFolder, find_run, runs_root


def rebuild(
    manifest_path: Path, out: Path | None, runs_folder: Path | None = None, places: Places | None = None
) -> Path:
    """Make a submission again with the weights, temperatures and factors of its manifest; the CSV has the same bytes.

    Returns the path of the CSV. out: where to write it; None to write it next to the manifest. runs_folder: the folder
    that contains the runs; None to find them by the paths in the manifest. Raises UserError, before the CSV is written,
    if a run is missing, if a checkpoint or the data has changed, or if the predicted labels are not the original ones.
    """
    manifest = read_manifest(manifest_path)
    out = manifest_path.with_suffix(".csv") if out is None else out
    check_output(out.parent, "--out", out)
    runs = member_runs(manifest_path, manifest, runs_folder, places)
    params = BlendParams(manifest["temperatures"], manifest["weights"], manifest["factors"])
    views = canonical_views(manifest["tta"], f"{manifest_path}: tta")
    predictions, pred_labels, prepared = apply_blend(runs, views, params)
    for key, meta_key in (("dataset", "fingerprint"), ("eval", "eval_fingerprint")):
        if prepared.meta[meta_key] != manifest[key]:
            raise UserError(
                f"{manifest_path}: {key} was {manifest[key]}, but {prepared.folder} has {prepared.meta[meta_key]}; "
                "restore the data, or make a new submission"
            )
    table, info = submission_table(predictions.image_id, pred_labels, prepared)

    def check_hash(temporary: Path) -> None:
        if sha256(temporary) != manifest["csv_sha256"]:
            raise UserError(
                f"{manifest_path}: the same runs predict other labels now, so {out} was not written; use the torch "
                "version, device and number of threads of the original submission, or make a new submission"
            )

    write_submission(out, table, info, check_hash)
    return out


def member_runs(
    manifest_path: Path, manifest: dict, runs_folder: Path | None = None, places: Places | None = None
) -> list[RunFolder]:
    """Find the run of each member of a manifest, in order; see rebuild for the arguments.

    Raises UserError if a run is missing or has other checkpoints than the manifest records.
    """
    runs = [RunFolder(_find_member(member, manifest_path, runs_folder), places) for member in manifest["members"]]
    for run, member in zip(runs, manifest["members"], strict=True):
        _check_checkpoints(run, member, manifest_path)
    return runs


def _find_member(member: dict, manifest: Path, runs_folder: Path | None) -> Path:
    """Find a member's run folder by its name in runs_folder, or by its path in the manifest if runs_folder is None.

    Of several folders that match the path, one with the same checkpoints is preferred. Raises UserError if none exists.
    """
    name = Path(member["run"])
    if runs_folder is not None:
        return find_run(runs_folder / name.name)
    candidates = [*possible_paths(Path(member.get("folder", name)), manifest), runs_root() / name]
    folders = [folder for folder in candidates if is_found(folder / "config.yaml")]
    for folder in folders:
        # Another run of the same name may be unfinished (UserError) or belong to another user (PermissionError).
        with contextlib.suppress(UserError, PermissionError):
            if checkpoint_hashes(RunFolder(folder)) == member["checkpoints"]:
                return find_run(folder)
    try:
        return find_run(folders[0] if folders else name)
    except UserError as error:
        raise UserError(f"{manifest}: {error}, or give the folder of the runs with --runs") from error


def _check_checkpoints(run: RunFolder, member: dict, manifest: Path) -> None:
    """Raise UserError if a run's weights are not those recorded in the manifest."""
    hashes, recorded = checkpoint_hashes(run), member["checkpoints"]
    for part in sorted(hashes.keys() | recorded.keys()):
        if hashes.get(part) == recorded.get(part):
            continue
        change = "was deleted" if part not in hashes else "has changed" if part in recorded else "was added"
        raise UserError(
            f"{run.weights_path(part)}: {change} since {manifest} was written; restore the checkpoints, or make a new "
            "submission"
        )
