"""The models that predict new photos: those of one run, of several runs, or of the runs of a submission."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskfold.errors import UserError
from maskfold.inference.cached_predictions import checkpoint_hashes, prediction_paths
from maskfold.inference.cross_fit import BlendParams, fit
from maskfold.inference.loaded_run import RunModel
from maskfold.inference.manifest import read_manifest
from maskfold.inference.rebuild import member_runs
from maskfold.models.tta import canonical_views
from maskfold.probabilities import OutOfFold, join, load_predictions
from maskfold.runs.run_folder import RunFolder, find_run


@dataclass(frozen=True)
class Ensemble:
    """The loaded models of one or more runs. params: how their probabilities are blended; None for a single run."""

    models: list[RunModel]
    views: tuple[str, ...]
    params: BlendParams | None = None

    def blend(self, members: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return (probabilities float32 [N, 18], predicted labels int [N]); members: [N, 18], one per model."""
        if self.params is None:
            return members[0], members[0].argmax(1)
        stacked = np.stack(members)
        return self.params.probs(stacked).astype(np.float32), self.params.predict(stacked)


def load_runs(paths: Sequence[Path], tta: Sequence[str]) -> Ensemble:
    """Load runs, which are blended as `submit.py RUN ...` does: equal weights, calibrated probabilities.

    paths: run folders, or names under runs/. Raises UserError as RunModel does, for an unknown view, and if several
    runs have no training photo in common.
    """
    views = canonical_views(tta, "--tta")
    runs = [RunFolder(find_run(path)) for path in paths]
    params = None
    if len(runs) > 1:
        oofs = join([_out_of_fold(run, views) for run in runs])
        members = np.stack([oof.probs for oof in oofs])
        params = fit(members, oofs[0].label, oofs[0].person_id, "mean", "argmax")
    return Ensemble([RunModel(run.folder) for run in runs], views, params)


def load_submission(manifest_path: Path, paths: Sequence[Path], runs_folder: Path | None) -> Ensemble:
    """Load the runs of a submission, with the views, weights, temperatures and factors of its manifest.

    paths: the folders of all its runs in any order; if there are none, they are found as submit.py --from finds them.
    Raises UserError if a run is missing, or if its checkpoints are not those that the manifest records.
    """
    manifest = read_manifest(manifest_path)
    views = canonical_views(manifest["tta"], f"{manifest_path}: tta")
    if paths:
        runs = _given_members(manifest_path, manifest, paths)
    else:
        runs = member_runs(manifest_path, manifest, runs_folder)
    params = BlendParams(manifest["temperatures"], manifest["weights"], manifest["factors"])
    return Ensemble([RunModel(run.folder) for run in runs], views, params)


def _given_members(manifest_path: Path, manifest: dict, paths: Sequence[Path]) -> list[RunFolder]:
    """Return the given run of each member. Runs are recognised by their checkpoints, so they may have other names."""
    runs = {find_run(path): None for path in paths}
    hashes = {folder: checkpoint_hashes(RunFolder(folder)) for folder in runs}
    members, unused = [], set(runs)
    for member in manifest["members"]:
        folder = next((folder for folder in runs if hashes[folder] == member["checkpoints"]), None)
        if folder is None:
            raise UserError(
                f"{manifest_path}: none of the given runs has the checkpoints of its member {member['run']}; give the "
                "unchanged folders of all its runs, or none, so that they are found by the paths in the manifest"
            )
        members.append(RunFolder(folder))
        unused.discard(folder)
    if unused:
        raise UserError(f"{min(unused)}: is not a run of {manifest_path}; leave it out")
    return members


def _out_of_fold(run: RunFolder, views: tuple[str, ...]) -> OutOfFold:
    """Return the out-of-fold predictions with these views if submit.py has cached them, else those of training."""
    checkpoints = [f"{part}:{digest}" for part, digest in checkpoint_hashes(run).items()]
    for path in prediction_paths(run, views)[1]:
        with contextlib.suppress(UserError):
            oof = load_predictions(path, out_of_fold=True)
            # The first entry is the fingerprint of the eval photos, which are not needed here.
            if oof.source is not None and oof.source[1:].tolist() == checkpoints:
                return oof
    return load_predictions(run.folder / "oof.npz", out_of_fold=True)
