"""Rebuild a submission from its manifest."""

from pathlib import Path

from maskfold.errors import UserError
from maskfold.fileio import sha256
from maskfold.inference.blend import apply_blend
from maskfold.inference.cached_predictions import checkpoint_hashes
from maskfold.inference.cross_fit import BlendParams
from maskfold.inference.manifest import read_manifest
from maskfold.inference.submission import submission_table, write_submission
from maskfold.models.tta import canonical_views
from maskfold.runs.run_folder import RunFolder, find_run


def rebuild(manifest_path: Path, out: Path | None) -> Path:
    """Make a submission again with the weights, temperatures and factors of its manifest: the same, byte for byte.

    Returns the path of the CSV: `out`, by default the one beside the manifest. Raises UserError, before anything is
    written, if a run is missing, a checkpoint or the data has changed, or the predicted labels differ.
    """
    manifest = read_manifest(manifest_path)
    runs = [RunFolder(find_run(_run_path(member))) for member in manifest["members"]]
    for run, member in zip(runs, manifest["members"], strict=True):
        _check_checkpoints(run, member, manifest_path)
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
    out = manifest_path.with_suffix(".csv") if out is None else out

    def check_hash(temporary: Path) -> None:
        if sha256(temporary) != manifest["csv_sha256"]:
            raise UserError(
                f"{manifest_path}: the same runs predict other labels now, and {out} was not written; use the torch "
                "version, device and number of threads of the original, or make a new submission"
            )

    write_submission(out, table, info, check_hash)
    return out


def _run_path(member: dict) -> Path:
    """The path of a member's run folder if it still exists, otherwise the run's name."""
    path = Path(member.get("folder") or member["run"])
    return path if (path / "config.yaml").exists() else Path(member["run"])


def _check_checkpoints(run: RunFolder, member: dict, manifest: Path) -> None:
    """Raises UserError if a run's weights are not those of the manifest."""
    hashes, recorded = checkpoint_hashes(run), member["checkpoints"]
    for part in sorted(hashes.keys() | recorded.keys()):
        if hashes.get(part) == recorded.get(part):
            continue
        change = "was deleted" if part not in hashes else "has changed" if part in recorded else "was added"
        raise UserError(
            f"{run.weights_path(part)}: {change} since {manifest} was written; restore the checkpoints, or make a new "
            "submission"
        )
