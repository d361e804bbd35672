"""Validation scores of an epoch, and the final weights and out-of-fold predictions of a part."""

import numpy as np
import torch

from maskfold.config.experiment import Config
from maskfold.errors import UserError
from maskfold.metrics.calibration import log_loss
from maskfold.metrics.scores import scores
from maskfold.models.classifier import Classifier
from maskfold.probabilities import OutOfFold
from maskfold.runs.part_weights import Weights, load_part, write_weights
from maskfold.runs.run_folder import fold_of
from maskfold.training.fold_data import FoldData
from maskfold.training.fold_job import FoldJob
from maskfold.training.train_state import TrainState


def validation_scores(data: FoldData, state: TrainState) -> dict[str, float]:
    """Return val_loss and the metrics after an epoch; an empty dict for the refit, which has no validation photos.

    With an EMA, these are the scores of the EMA weights. raw_val_loss and raw_macro_f1 are then the scores of the raw
    weights, to show whether the EMA helps. If probabilities contain NaN or infinity, val_loss is NaN and the metrics
    are missing.
    """
    if not len(data.photos.val_rows):
        return {}
    raw = _evaluate(data, state.model)
    if state.ema is None:
        return raw
    averaged = _evaluate(data, state.ema.module)
    if not np.isfinite(raw["val_loss"]):
        return raw
    return averaged | {f"raw_{key}": raw[key] for key in ("val_loss", "macro_f1")}


def _evaluate(data: FoldData, model: torch.nn.Module) -> dict[str, float]:
    _, probs = data.predict(model, data.val_loader)
    if not np.isfinite(probs).all():
        return {"val_loss": np.nan}
    labels = data.photos.labels[data.photos.val_rows]
    return {"val_loss": log_loss(probs, labels), **scores(labels, probs.argmax(1))}


def val_macro_f1(data: FoldData, classifier: Classifier, weights: Weights) -> float:
    """Load weights into the classifier and return their macro F1 on the validation photos."""
    classifier.load_state_dict(weights)
    rows, probs = data.predict(classifier, data.val_photo_loader)
    return scores(data.photos.labels[rows], probs.argmax(1))["macro_f1"]


def write_results(
    job: FoldJob, data: FoldData, classifier: Classifier, weights: Weights
) -> tuple[np.ndarray, OutOfFold | None]:
    """Write a part's weights and out-of-fold predictions; return (validation rows, predictions or None for a refit).

    The weights are read back before predicting, so that oof.npz contains the predictions of the saved weights.
    """
    name, accelerator, run = job.part.name, data.accelerator, job.context.run
    if accelerator.is_main_process:
        write_weights(run.weights_path(name), weights, classifier.architecture)
    accelerator.wait_for_everyone()
    load_part(classifier, run, name)
    rows, oof = data.photos.val_rows, None
    if len(rows):
        rows, probs = data.predict(classifier, data.val_photo_loader)
        table, fold = job.context.prepared.images.iloc[rows], np.full(len(rows), fold_of(name))
        oof = OutOfFold(table.image_id.to_numpy(), probs, data.photos.labels[rows], fold, table.person_id.to_numpy())
    if accelerator.is_main_process:
        run.finish(name, oof)
    return rows, oof


def memory_error(part: str, config: Config, start_again: str = "start again (--fresh)") -> UserError:
    """Return the error to raise if the GPU has too little memory to train a part.

    start_again: the words of the message that say how to repeat the command.
    """
    steps = config.optim.accum_steps
    return UserError(
        f"optim.accum_steps: the GPU has too little memory to train {part} with {steps} micro-batches per batch; "
        f"{start_again} with a higher optim.accum_steps or with auto; the batch size stays the same"
    )


def divergence_error(job: FoldJob, epoch: int) -> UserError:
    folder, lr = job.context.run.folder, job.context.config.optim.lr
    return UserError(
        f"{folder}: loss, weights or predictions contain NaN or infinity in epoch {epoch} of {job.part.name}; start "
        f"again (--fresh, or another --name) with a lower optim.lr than {lr}, a longer optim.warmup_epochs, "
        "optim.clip_norm, or --run.precision fp32"
    )
