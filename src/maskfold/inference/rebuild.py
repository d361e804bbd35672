"""A submission made again from its manifest."""

from pathlib import Path

from maskfold.errors import UserError
from maskfold.fileio import sha256
from maskfold.inference.blend import blend_again
from maskfold.inference.cache import checkpoint_hashes
from maskfold.inference.cross_fit import Fitted
from maskfold.inference.manifest import read_manifest
from maskfold.inference.submission import answer_table, write_answers
from maskfold.models.tta import canonical_views
from maskfold.runs.run_folder import RunFolder, find_run


def rebuild(manifest_path: Path, out: Path | None) -> Path:
    """Make a submission again with the weights, temperatures and factors of its manifest: the same, byte for byte.

    Returns where it was written: `out`, or the manifest's own place. Raises UserError, before anything is written,
    where a run is gone, a checkpoint or the data is another, or the answers differ.
    """
    held = read_manifest(manifest_path)
    runs = [RunFolder(find_run(_place(member))) for member in held["members"]]
    for run, member in zip(runs, held["members"], strict=True):
        _check_checkpoints(run, member, manifest_path)
    fitted = Fitted(held["temperatures"], held["weights"], held["factors"])
    evaluation, answers, prepared = blend_again(runs, canonical_views(held["tta"], f"{manifest_path}: tta"), fitted)
    for key, have in (("dataset", "fingerprint"), ("eval", "eval_fingerprint")):
        if prepared.meta[have] != held[key]:
            raise UserError(
                f"{manifest_path}: {key} was {held[key]}, {prepared.folder} has {prepared.meta[have]}; "
                "restore the data, or make a new submission"
            )
    table, info = answer_table(evaluation.image_id, answers, prepared)
    out = manifest_path.with_suffix(".csv") if out is None else out

    def same(beside: Path) -> None:
        if sha256(beside) != held["csv_sha256"]:
            raise UserError(
                f"{manifest_path}: the same runs answer differently now (another torch, device or number of threads?); "
                f"nothing was written to {out}"
            )

    write_answers(out, table, info, same)
    return out


def _place(member: dict) -> Path:
    """A member's run folder where it was, else by its name."""
    place = Path(member["folder"]) if "folder" in member else Path(member["run"])
    return place if (place / "config.yaml").exists() else Path(member["run"])


def _check_checkpoints(run: RunFolder, member: dict, manifest: Path) -> None:
    """Raises UserError where a run's weights are not those on record."""
    hashes, known = checkpoint_hashes(run), member["checkpoints"]
    for part in sorted(hashes.keys() | known.keys()):
        if hashes.get(part) == known.get(part):
            continue
        state = "is not there" if part not in hashes else "is another" if part in known else "is new"
        raise UserError(
            f"{run.weights_path(part)}: {state} since {manifest} was written; restore the checkpoints, or make a new "
            "submission"
        )
