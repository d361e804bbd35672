"""Fold models -> probabilities of the eval photos, and of the training photos out-of-fold, by the same views."""

from collections.abc import Sequence

import numpy as np

from maskfold.data.prepared import Prepared, load_prepared
from maskfold.errors import UserError, nearest
from maskfold.files import sha256
from maskfold.predictions import Predictions, load_predictions
from maskfold.training.runs import RunFolder
from maskfold.training.views import VIEWS


def canonical_views(views: Sequence[str]) -> tuple[str, ...]:
    """Each view once, in VIEWS' order, so that a set of views has one name. Raises UserError for an unknown one."""
    for view in views:
        if view not in VIEWS:
            raise UserError(f"--tta {view}: there are {', '.join(VIEWS)}{nearest(view, VIEWS)}")
    return tuple(view for view in VIEWS if view in views)


def prepared_of(run: RunFolder) -> Prepared:
    """The prepared folder a run was trained on. Raises UserError where it is gone or has changed."""
    # First: a config that was emptied names no prepared folder.
    run.check_unedited()
    prepared = load_prepared(run.config.data.prepared)
    run.check_same(run.config, prepared)
    return prepared


def checkpoint_hashes(run: RunFolder) -> dict[str, str]:
    """Finished part (fold0, ..., full) -> sha256 of its weights. Raises UserError where one is missing."""
    if not run.finished_folds:
        raise UserError(f"{run.folder}: no fold is finished; train it first")
    for part in run.finished_parts:
        if not run.weights_path(part).exists():
            raise UserError(f"{run.weights_path(part)}: not found; delete {run.part_dir(part)} and train {part} again")
    return {part: sha256(run.weights_path(part)) for part in run.finished_parts}


def predict_run(run: RunFolder, prepared: Prepared, views: tuple[str, ...]) -> tuple[Predictions, Predictions]:
    """(eval, out-of-fold) predictions of all finished parts with these views, from eval-<tta>.npz and oof-<tta>.npz
    where the same checkpoints made them, else computed and written there.

    Raises UserError where the data has no eval side.
    """
    if prepared.evaluation is None:
        raise UserError(f"{prepared.meta['eval']}: the data has no eval side; no submission can be made")
    hashes = checkpoint_hashes(run)
    eval_side = f"eval:{prepared.meta['eval_fingerprint']}"
    source = np.array([eval_side] + [f"{part}:{digest}" for part, digest in hashes.items()])
    tta = "+".join(views)
    paths = {side: run.folder / f"{side}-{tta}.npz" for side in ("eval", "oof")}
    if all(path.exists() for path in paths.values()):
        known = {side: load_predictions(path, out_of_fold=side == "oof") for side, path in paths.items()}
        if all(found.source is not None and np.array_equal(found.source, source) for found in known.values()):
            return known["eval"], known["oof"]
    # Only here: cached predictions are blended without torch.
    from maskfold.inference.forward import forward_run

    evaluation, oof = forward_run(run, run.config, prepared, views, source)
    evaluation.save(paths["eval"])
    oof.save(paths["oof"])
    return evaluation, oof
