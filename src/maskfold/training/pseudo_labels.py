"""Pseudo-labels: add eval photos, labelled by models of other runs, to the training photos of a fold or refit.

The labels for fold k come only from the fold-k models of other runs. The models of all other folds were trained on the
people of fold k. What they learnt about these people would leak into the model that is scored on the same people.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from maskfold.data.images_table import Prepared
from maskfold.data.raw_csv import read_table
from maskfold.errors import UserError
from maskfold.fileio import sha256, write_csv, write_json
from maskfold.labels import CLASS_NAMES, NUM_CLASSES
from maskfold.loading.store import open_store
from maskfold.models.device import Hardware
from maskfold.models.targets import UNKNOWN_AGE
from maskfold.models.tta import canonical_views
from maskfold.progress import progress
from maskfold.runs.part_predictions import PartRows, predict_parts
from maskfold.runs.run_folder import RunFolder
from maskfold.training.fold_data import TrainingPhotos
from maskfold.training.fold_job import FoldJob, TrainContext
from maskfold.training.pseudo_sources import SOURCES_FILE, Source, find_sources

# File in the folder of a part: the eval photos that were added to its training photos, with their labels.
LABELS_FILE = "pseudo.csv"


def training_photos(job: FoldJob, accelerator: Accelerator) -> TrainingPhotos:
    """Return the photos of a part, and add pseudo-labelled eval photos if pseudo.runs is set.

    The rows of the eval photos follow those of the training photos. Only eval photos with a confident label are added
    to train_rows. They are selected once and recorded in the part's folder: pseudo.csv contains the photos and
    labels, and pseudo.json the models that predicted the labels.
    """
    context, part = job.context, job.part
    photos = TrainingPhotos.of_part(context.prepared, context.store, part)
    if not context.config.pseudo.runs:
        return photos
    path = context.run.part_dir(part.name) / LABELS_FILE
    missing = not path.exists()
    # All processes must look for the file before the main process writes it.
    accelerator.wait_for_everyone()
    if missing:
        _label_eval_photos(context, part.name, accelerator)
    with_eval = _with_eval_photos(photos, context, path)
    if accelerator.is_main_process:
        num_added, num_eval = len(with_eval.train_rows) - len(part.train_rows), len(context.prepared.eval_table)
        print(f"{part.name}: {num_added} of {num_eval} eval photos are added with pseudo-labels", file=sys.stderr)
    return with_eval


def _with_eval_photos(photos: TrainingPhotos, context: TrainContext, path: Path) -> TrainingPhotos:
    """Add the store of the eval photos; the photos listed in pseudo.csv become training rows. path: pseudo.csv."""
    config, prepared = context.config, context.prepared
    ids, num_train = pd.Index(prepared.eval_table.image_id), len(photos.labels)
    rows, pseudo_labels = read_pseudo_labels(path, ids)
    # Eval photos that were not selected get label 0. It is never used, because they are not in train_rows.
    labels = np.zeros(len(ids), photos.labels.dtype)
    labels[rows] = pseudo_labels
    return TrainingPhotos(
        stores=(*photos.stores, open_store(prepared, prepared.evaluation, config.data)),
        labels=np.concatenate([photos.labels, labels]),
        ages=np.concatenate([photos.ages, np.full(len(ids), UNKNOWN_AGE)]),
        weights=np.concatenate([photos.weights, np.full(len(ids), config.pseudo.weight)]),
        train_rows=np.concatenate([photos.train_rows, num_train + np.sort(rows)]),
        val_rows=photos.val_rows,
        pseudo_hash=sha256(path),
    )


def read_pseudo_labels(path: Path, ids: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Read pseudo.csv; return (rows, labels 0..17), int [N] each. ids: the image ids of the eval set, in row order.

    Raises UserError if the file is damaged or belongs to another eval set.
    """
    fix = f"delete {path.parent} to train {path.parent.name} again"
    try:
        # The table is empty if no photo reached the threshold.
        selected = read_table(path, ("image_id", "label"), may_be_empty=True)
    except UserError as error:
        raise UserError(f"{error}, or {fix}") from error
    rows = ids.get_indexer(selected.image_id)
    are_known = (rows >= 0).all() and len(set(rows)) == len(rows)
    if not are_known or not selected.label.isin([str(label) for label in range(NUM_CLASSES)]).all():
        raise UserError(
            f"{path}: a photo is not in the eval set or is listed twice, or a label is not in 0 to {NUM_CLASSES - 1}; "
            f"{fix}"
        )
    return rows, selected.label.astype(int).to_numpy()


def _label_eval_photos(context: TrainContext, part: str, accelerator: Accelerator) -> None:
    """Average the sources' predictions for the eval photos; save the photos whose confidence reaches the threshold.

    Each process predicts its share of the photos; the main process writes the files.
    """
    run, config, prepared = context.run, context.config, context.prepared
    sources = find_sources(run, config, prepared, part)
    views = canonical_views(config.pseudo.views, "pseudo.views")
    table = prepared.eval_table
    names = ", ".join(f"{source.name}/{name}" for source, name in sources)
    is_main, all_rows = accelerator.is_main_process, np.arange(len(table))
    rows = np.array_split(all_rows, accelerator.num_processes)[accelerator.process_index]
    with progress(f"{part} pseudo-labels by {names}", len(rows) * len(sources), "images", is_main) as advance:
        own_probs = np.zeros((len(rows), NUM_CLASSES))
        # Load one model at a time, because all of them together may not fit into the GPU's memory.
        for source, name in sources:
            source_rows = _rows_for(source, name, prepared, rows, accelerator.device)
            [source_probs] = predict_parts([source_rows], views, on_batch=advance)
            own_probs += source_probs.astype(np.float64) / len(sources)
    probs = np.concatenate(gather_object([own_probs]) if accelerator.num_processes > 1 else [own_probs])
    if is_main:
        selected = _select(table, probs, config.pseudo.threshold)
        record = _record(sources, views, config.pseudo.threshold, selected, len(table))
        write_json(run.part_dir(part) / SOURCES_FILE, record)
        # Write the list last, because its existence marks the selection as complete.
        write_csv(run.part_dir(part) / LABELS_FILE, selected)
    accelerator.wait_for_everyone()


def _select(table: pd.DataFrame, probs: np.ndarray, threshold: float) -> pd.DataFrame:
    """Return image_id, label and confidence of each eval photo whose most probable class reaches the threshold."""
    confidence = probs.max(1)
    labels = pd.DataFrame({"image_id": table.image_id, "label": probs.argmax(1), "confidence": confidence})
    return labels[confidence >= threshold]


def _record(
    sources: Sequence[Source], views: Sequence[str], threshold: float, selected: pd.DataFrame, num_eval: int
) -> dict:
    """The content of pseudo.json. num_eval: the number of eval photos."""
    counts = np.bincount(selected.label, minlength=NUM_CLASSES).tolist()
    return {
        "sources": [{"run": s.name, "part": name, "checkpoint": sha256(s.weights_path(name))} for s, name in sources],
        "views": list(views),
        "threshold": threshold,
        "of": num_eval,
        "photos": len(selected),
        "classes": dict(zip(CLASS_NAMES, counts, strict=True)),
    }


def _rows_for(source: RunFolder, part: str, prepared: Prepared, rows: np.ndarray, device: torch.device) -> PartRows:
    """Describe what a model is to predict: `rows` of the eval photos, with its run's preprocessing and precision.

    part: the part of the run `source` that the model belongs to.
    """
    config = source.config
    store = open_store(prepared, prepared.evaluation, config.data)
    return PartRows(source, config, part, store, rows, Hardware.of(device, config.run.predict_precision))
