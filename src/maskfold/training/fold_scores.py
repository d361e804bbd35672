"""What the models of a part say of its validation photos: an epoch's scores and its final predictions."""

import numpy as np
import torch

from maskfold.errors import UserError
from maskfold.metrics.calibration import log_loss
from maskfold.metrics.scores import scores
from maskfold.models.classifier import Classifier
from maskfold.probabilities import OutOfFold
from maskfold.runs.part_weights import Weights, load_part, write_weights
from maskfold.runs.run_folder import fold_of
from maskfold.training.engine import Trainee
from maskfold.training.fold_data import FoldData
from maskfold.training.fold_job import FoldJob


def validation_scores(data: FoldData, trainee: Trainee) -> dict[str, float]:
    """val_loss and the metrics after an epoch; {} of a part without validation photos.

    With a moving average the scores are its own; raw_val_loss and raw_macro_f1 are those of the weights it follows,
    which tell whether it is worth it. val_loss is NaN where probabilities are not finite.
    """
    if not len(data.part.valid_rows):
        return {}
    raw = _scored(data, trainee.model)
    if trainee.ema is None:
        return raw
    averaged = _scored(data, trainee.ema.module)
    if not np.isfinite(raw["val_loss"]):
        return raw
    return averaged | {f"raw_{key}": raw[key] for key in ("val_loss", "macro_f1")}


def _scored(data: FoldData, model: torch.nn.Module) -> dict[str, float]:
    _, probs = data.predict(model, data.valid)
    if not np.isfinite(probs).all():
        return {"val_loss": np.nan}
    truth = data.labels[data.part.valid_rows]
    return {"val_loss": log_loss(probs, truth), **scores(truth, probs.argmax(1))}


def score_of(data: FoldData, classifier: Classifier, weights: Weights) -> float:
    """Macro F1 of other weights on the validation photos."""
    classifier.load_state_dict(weights)
    rows, probs = data.predict(classifier, data.eval_photos)
    return scores(data.labels[rows], probs.argmax(1))["macro_f1"]


def write_result(
    job: FoldJob, data: FoldData, classifier: Classifier, weights: Weights
) -> tuple[np.ndarray, OutOfFold | None]:
    """Write a part's weights and out-of-fold predictions; returns (rows of the validation photos, predictions or None).

    Predicted from the file, so that oof.npz is what these weights say to whoever loads them.
    """
    name, accelerator, images = data.part.name, data.accelerator, job.prepared.images
    if accelerator.is_main_process:
        write_weights(job.run.weights_path(name), weights, classifier.architecture)
    accelerator.wait_for_everyone()
    load_part(classifier, job.run, name)
    rows, oof = data.part.valid_rows, None
    if len(rows):
        rows, probs = data.predict(classifier, data.eval_photos)
        table, fold = images.iloc[rows], np.full(len(rows), fold_of(name))
        oof = OutOfFold(table.image_id.to_numpy(), probs, data.labels[rows], fold, table.person_id.to_numpy())
    if accelerator.is_main_process:
        job.run.finish(name, oof)
    return rows, oof


def out_of_memory(job: FoldJob) -> UserError:
    return UserError(
        f"optim.accum_steps: the GPU's memory does not hold {job.part.name} in {job.config.optim.accum_steps} parts of "
        "a batch; start anew with more of them: the batch stays the same"
    )


def diverged(job: FoldJob, epoch: int) -> UserError:
    return UserError(
        f"{job.run.folder}: loss, weights or predictions are no numbers in epoch {epoch} of {job.part.name}; lower "
        f"optim.lr ({job.config.optim.lr}), lengthen optim.warmup_epochs, set optim.clip_norm, or use "
        "--run.precision fp32; the last checkpoint stands"
    )
