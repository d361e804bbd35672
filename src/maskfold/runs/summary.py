"""Join the out-of-fold predictions of a run's folds and score them."""

import json
from typing import Any

import numpy as np

from maskfold.config.experiment import Config, selects_on_validation
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.fileio import json_text, read_json_or_none, why_not_writable, write_json
from maskfold.metrics.bootstrap import score_intervals
from maskfold.metrics.scores import scores
from maskfold.probabilities import OOF_FIELDS, OutOfFold, load_predictions
from maskfold.runs.run_folder import RunFolder, fold_name

SELECTED, NOT_SELECTED = "selected on its own validation fold", "last epoch"


def selection(config: Config) -> str:
    """Describe which weights a fold keeps: SELECTED if they depend on the scores on its own validation fold."""
    if selects_on_validation(config):
        return SELECTED
    return f"mean of the last {config.run.keep_epochs} epochs" if config.run.keep == "mean" else NOT_SELECTED


def write_summary(run: RunFolder, prepared: Prepared) -> dict:
    """Join the out-of-fold predictions of the finished folds, write oof.npz and summary.json, and return the summary.

    Raises UserError if two folds predict the same photo.
    """
    oof = _joined_folds(run)
    predicted = set(oof.image_id)
    paths = run.folder / "oof.npz", run.folder / "summary.json"
    if why_not_writable(run.folder) and all(path.exists() for path in paths):
        # The run is finished and on a read-only disk.
        return summarise(run)
    oof.aligned([name for name in prepared.images.image_id if name in predicted]).save(paths[0])
    summary = summarise(run)
    write_json(paths[1], summary)
    return summary


def written_summary(run: RunFolder) -> dict | None:
    """The content of summary.json; None if it is missing, or if it or oof.npz does not match the finished folds.

    Raises UserError if a file that the summary is computed from is missing or damaged.
    """
    oof, written = _joined_folds(run), load_predictions(run.folder / "oof.npz", out_of_fold=True)
    if set(oof.image_id) != set(written.image_id):
        return None
    oof = oof.aligned(written.image_id)
    if not all(np.array_equal(getattr(oof, name), getattr(written, name)) for name in ("probs", *OOF_FIELDS)):
        return None
    summary = summarise(run)
    return summary if read_json_or_none(run.folder / "summary.json") == json.loads(json_text(summary)) else None


def _joined_folds(run: RunFolder) -> OutOfFold:
    """Join the out-of-fold predictions of the finished folds. Raises UserError if two folds predict the same photo."""
    parts = [
        load_predictions(run.part_dir(fold_name(fold)) / "oof.npz", out_of_fold=True) for fold in run.finished_folds
    ]
    fields = ("image_id", "probs", *OOF_FIELDS)
    oof = OutOfFold(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields})
    if len(set(oof.image_id)) < len(oof.image_id):
        raise UserError(f"{run.folder}: two folds predict the same photo; delete the run and train it again")
    return oof


def summarise(run: RunFolder) -> dict:
    """Compute the content of summary.json from oof.npz and metrics.jsonl. Raises UserError if a file is missing."""
    oof = load_predictions(run.folder / "oof.npz", out_of_fold=True)
    provenance, config, rows = run.provenance, run.config, []
    for fold in np.unique(oof.fold):
        history = run.read_metrics(fold_name(fold))
        seconds = sum(row["seconds"] for row in history)
        rate = sum(row["images_per_second"] * row["seconds"] for row in history) / seconds
        best = max(history, key=lambda row: row["macro_f1"])["epoch"]
        in_fold = oof.fold == fold
        fold_scores: dict[str, Any] = dict(scores(oof.label[in_fold], oof.pred_labels[in_fold]))
        bounds = score_intervals(oof.label[in_fold], oof.pred_labels[in_fold], oof.person_id[in_fold], 0)
        fold_scores["macro_f1_ci95"] = bounds["macro_f1_ci95"]
        rows.append(
            {"fold": int(fold), **fold_scores, "best_epoch": best, "seconds": seconds, "images_per_second": rate}
        )
    whole = scores(oof.label, oof.pred_labels)
    return {
        "name": run.name,
        "oof": whole | score_intervals(oof.label, oof.pred_labels, oof.person_id, provenance["eval_people"]),
        "folds": rows,
        "complete": len(rows) == config.data.folds,
        "selection": selection(config),
        **provenance,
    }


def epoch_line(row: dict, epochs: int) -> str:
    """The metrics of an epoch as one line; a refit has no validation scores."""
    text = f"epoch {row['epoch']}/{epochs}  loss {row['train_loss']:.3f}"
    if "macro_f1" in row:
        text += f" / {row['val_loss']:.3f}  macro F1 {row['macro_f1']:.4f}  accuracy {row['accuracy']:.4f}"
    return f"{text}  {row['images_per_second']:,.0f} images/s"
