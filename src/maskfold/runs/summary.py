"""A run as a whole: its folds' out-of-fold predictions put together, and what they score."""

from typing import Any

import numpy as np

from maskfold.config.experiment import Config, selects_on_validation
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.fileio import write_json
from maskfold.metrics.bootstrap import intervals
from maskfold.metrics.scores import scores
from maskfold.probabilities import OOF_FIELDS, OutOfFold, load_predictions
from maskfold.runs.run_folder import RunFolder, fold_name

SELECTED, NOT_SELECTED = "selected on its own validation fold", "last epoch"


def selection(config: Config) -> str:
    """In words, which weights a fold ends with, and whether the score was chosen on the fold it is of."""
    if selects_on_validation(config):
        return SELECTED
    return f"mean of the last {config.run.keep_epochs} epochs" if config.run.keep == "mean" else NOT_SELECTED


def gather(run: RunFolder, prepared: Prepared) -> dict:
    """Join the finished folds' out-of-fold predictions, write oof.npz and summary.json, return the summary."""
    parts = [
        load_predictions(run.part_dir(fold_name(fold)) / "oof.npz", out_of_fold=True) for fold in run.finished_folds
    ]
    fields = ("image_id", "probs", *OOF_FIELDS)
    oof = OutOfFold(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields})
    known = set(oof.image_id)
    if len(known) < len(oof.image_id):
        raise UserError(f"{run.folder}: two folds predict one photo; delete the run and train it again")
    oof.aligned([name for name in prepared.images.image_id if name in known]).save(run.folder / "oof.npz")
    summary = summarise(run)
    write_json(run.folder / "summary.json", summary)
    return summary


def summarise(run: RunFolder) -> dict:
    """summary.json's content, computed from oof.npz and metrics.jsonl. Raises UserError where they are missing."""
    oof = load_predictions(run.folder / "oof.npz", out_of_fold=True)
    provenance, config, rows = run.provenance, run.config, []
    for fold in np.unique(oof.fold):
        history = run.read_metrics(fold_name(fold))
        seconds = sum(row["seconds"] for row in history)
        rate = sum(row["images_per_second"] * row["seconds"] for row in history) / seconds
        best = max(history, key=lambda row: row["macro_f1"])["epoch"]
        mine = oof.fold == fold
        found: dict[str, Any] = dict(scores(oof.label[mine], oof.pred_labels[mine]))
        found |= {
            "macro_f1_ci95": intervals(oof.label[mine], oof.pred_labels[mine], oof.person_id[mine], 0)["macro_f1_ci95"]
        }
        rows.append({"fold": int(fold), **found, "best_epoch": best, "seconds": seconds, "images_per_second": rate})
    whole = scores(oof.label, oof.pred_labels)
    return {
        "name": run.name,
        "oof": whole | intervals(oof.label, oof.pred_labels, oof.person_id, provenance["eval_people"]),
        "folds": rows,
        "complete": len(rows) == config.data.folds,
        "selection": selection(config),
        **provenance,
    }


def epoch_line(row: dict, epochs: int) -> str:
    """An epoch's metrics in a line; of a part that validates with its scores."""
    words = f"epoch {row['epoch']}/{epochs}  loss {row['train_loss']:.3f}"
    if "macro_f1" in row:
        words += f" / {row['val_loss']:.3f}  macro F1 {row['macro_f1']:.4f}  accuracy {row['accuracy']:.4f}"
    return f"{words}  {row['images_per_second']:,.0f} images/s"
