"""Predict all photos with all models of several runs. This module needs torch; blending cached predictions does not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from maskfold.config.experiment import Config
from maskfold.data.folds import split
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.loading.store import open_store
from maskfold.models.device import prediction_hardware
from maskfold.probabilities import OutOfFold, Predictions, mean_probs
from maskfold.progress import progress
from maskfold.runs.part_predictions import PartRows, predict_parts
from maskfold.runs.run_folder import RunFolder, fold_name


@dataclass(frozen=True)
class Member:
    """A finished run, the data it was trained on, and the source of its predictions (see cached_predictions.py)."""

    run: RunFolder
    config: Config
    prepared: Prepared
    source: np.ndarray


def predict_members(members: Sequence[Member], views: tuple[str, ...]) -> list[tuple[Predictions, OutOfFold]]:
    """Return (eval, out-of-fold) predictions of each member.

    Photos are read once for all folds, TTA views and members with the same preprocessing, batch size and hardware.
    Raises UserError if the models do not fit into the GPU's memory together.
    """
    requests = [_requests(member) for member in members]
    all_requests = [request for member_requests in requests for request in member_requests]
    names = ", ".join(member.run.name for member in members)
    total = sum(len(request.rows) for request in all_requests)
    with progress(f"predicting {names} ({'+'.join(views)})", total, "images") as advance:
        try:
            probs = predict_parts(all_requests, views, on_batch=advance)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"the GPU has too little memory for the models of {names} together; first make submissions of fewer "
                "runs, which caches their predictions; then submit all runs together"
            ) from error
    predictions = []
    for member, member_requests in zip(members, requests, strict=True):
        predictions.append(_collect(member, probs[: len(member_requests)]))
        probs = probs[len(member_requests) :]
    return predictions


def _requests(member: Member) -> list[PartRows]:
    """Requests of a run: the eval photos for each part, then each fold's validation photos for this fold's model."""
    run, config, prepared = member.run, member.config, member.prepared
    hardware = prediction_hardware(config.run)
    stores = [open_store(prepared, table, config.data) for table in (prepared.eval_table, prepared.images)]
    eval_rows = np.arange(len(prepared.eval_table))
    val_rows = {fold_name(fold): split(prepared.images, prepared.folds, fold)[1] for fold in run.finished_folds}
    requests = [PartRows(run, config, part, stores[0], eval_rows, hardware) for part in run.finished_parts]
    return requests + [PartRows(run, config, part, stores[1], rows, hardware) for part, rows in val_rows.items()]


def _collect(member: Member, probs: Sequence[np.ndarray]) -> tuple[Predictions, OutOfFold]:
    """Return (eval predictions, out-of-fold predictions). The eval predictions are the mean over the parts.

    probs: one array for each request of _requests. The fold_probs of the eval predictions do not include the refit,
    because it has no validation fold that would measure its score.
    """
    run, prepared, images = member.run, member.prepared, member.prepared.images
    num_parts = len(run.finished_parts)
    eval_probs = mean_probs(probs[:num_parts])
    # The folds come first in finished_parts, in the order of finished_folds.
    eval_fold_probs = np.stack(probs[: len(run.finished_folds)])
    eval_ids = prepared.eval_table.image_id.to_numpy()
    eval_predictions = Predictions(eval_ids, eval_probs, source=member.source, fold_probs=eval_fold_probs)
    pieces = []
    for fold, fold_probs in zip(run.finished_folds, probs[num_parts:], strict=True):
        rows = split(images, prepared.folds, fold)[1]
        table = images.iloc[rows]
        ids, labels, people = (table[name].to_numpy() for name in ("image_id", "label", "person_id"))
        pieces.append((ids, fold_probs, labels, np.full(len(rows), fold), people))
    ids, oof_probs, labels, folds, people = (np.concatenate(column) for column in zip(*pieces, strict=True))
    oof = OutOfFold(ids, oof_probs, labels, folds, people, member.source)
    predicted_ids = set(oof.image_id)
    return eval_predictions, oof.aligned([name for name in images.image_id if name in predicted_ids])
