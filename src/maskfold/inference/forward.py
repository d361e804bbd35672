"""All models of some runs over all photos: the part of inference that needs torch."""

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
from maskfold.probabilities import OutOfFold, Predictions
from maskfold.progress import progress
from maskfold.runs.part_predictions import PartRows, predict_parts
from maskfold.runs.run_folder import RunFolder, fold_name


@dataclass(frozen=True)
class Member:
    """A finished run, the data it was trained on, and what its predictions are made from."""

    run: RunFolder
    config: Config
    prepared: Prepared
    source: np.ndarray


def forward(members: Sequence[Member], views: tuple[str, ...]) -> list[tuple[Predictions, OutOfFold]]:
    """(eval, out-of-fold) predictions of each member.

    Photos are read once for all models that look at them alike: folds, views, and members of equal preprocessing.
    Raises UserError where the GPU's memory does not hold the models together.
    """
    wanted = [_wanted(member) for member in members]
    together = [part_rows for of_member in wanted for part_rows in of_member]
    names = ", ".join(member.run.name for member in members)
    total = sum(len(part_rows.rows) for part_rows in together)
    with progress(f"predicting {names} ({'+'.join(views)})", total, "images") as advance:
        try:
            probs = predict_parts(together, views, on_batch=advance)
        except torch.OutOfMemoryError as fault:
            raise UserError(
                f"the GPU's memory does not hold the models of {names} together; submit fewer runs at a time first: "
                "their predictions are kept for the next blend"
            ) from fault
    predictions = []
    for member, of_member in zip(members, wanted, strict=True):
        predictions.append(_gathered(member, probs[: len(of_member)]))
        probs = probs[len(of_member) :]
    return predictions


def _wanted(member: Member) -> list[PartRows]:
    """The eval photos for each part of a run in order, then each fold's own photos for its model."""
    run, config, prepared = member.run, member.config, member.prepared
    hardware = prediction_hardware(config.run)
    stores = [open_store(prepared, table, config.data) for table in (prepared.eval_table, prepared.images)]
    everything = np.arange(len(prepared.eval_table))
    left_out = {fold_name(fold): split(prepared.images, prepared.folds, fold)[1] for fold in run.finished_folds}
    wanted = [PartRows(run, config, part, stores[0], everything, hardware) for part in run.finished_parts]
    return wanted + [PartRows(run, config, part, stores[1], rows, hardware) for part, rows in left_out.items()]


def _gathered(member: Member, probs: Sequence[np.ndarray]) -> tuple[Predictions, OutOfFold]:
    """The mean of a member's parts on the eval side, and each fold's own photos one after the other.

    probs: one array for each of _wanted.
    """
    run, prepared, images = member.run, member.prepared, member.prepared.images
    num_parts = len(run.finished_parts)
    total = np.zeros(probs[0].shape)
    for part in probs[:num_parts]:
        total += part
    mean = (total / num_parts).astype(np.float32)
    evaluation = Predictions(prepared.eval_table.image_id.to_numpy(), mean, source=member.source)
    pieces = []
    for fold, fold_probs in zip(run.finished_folds, probs[num_parts:], strict=True):
        rows = split(images, prepared.folds, fold)[1]
        table = images.iloc[rows]
        ids, labels, people = (table[name].to_numpy() for name in ("image_id", "label", "person_id"))
        pieces.append((ids, fold_probs, labels, np.full(len(rows), fold), people))
    ids, oof_probs, labels, folds, people = (np.concatenate(column) for column in zip(*pieces, strict=True))
    oof = OutOfFold(ids, oof_probs, labels, folds, people, member.source)
    known = set(oof.image_id)
    return evaluation, oof.aligned([name for name in images.image_id if name in known])
