"""Pseudo-labels: eval photos that join a part's training, labelled by models that never saw its validation people.

The labels for fold k come only from the fold-k models of other runs. Every other model has learnt from the people of
fold k, and would leak their labels into the training of the model that is scored on them.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from maskfold.config.experiment import Config
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.fileio import sha256, write_atomic, write_json
from maskfold.labels import CLASS_NAMES, NUM_CLASSES
from maskfold.loading.store import open_store
from maskfold.models.device import DTYPES, Hardware
from maskfold.models.targets import UNKNOWN_AGE
from maskfold.models.tta import canonical_views
from maskfold.progress import progress
from maskfold.runs.part_predictions import PartRows, predict_parts
from maskfold.runs.run_folder import RunFolder
from maskfold.training.fold_data import Photos
from maskfold.training.fold_job import FoldJob, Part
from maskfold.training.pseudo_sources import SOURCES_FILE, Source, find_sources

# In the folder of a part: the eval photos that joined its training, with their labels.
LABELS_FILE = "pseudo.csv"


def training_photos(job: FoldJob, accelerator: Accelerator) -> tuple[Part, Photos, str]:
    """(part, its photos, hash of its pseudo-labels or an empty string).

    With pseudo-labels the eval photos follow the training photos in `Photos`, and the confident ones are added to the
    part's train_rows. They are selected once and saved in the part's folder: pseudo.csv with the photos and labels,
    pseudo.json with the models that predicted them.
    """
    run, config, prepared, store, part = job.run, job.config, job.prepared, job.store, job.part
    images = prepared.images
    photos = Photos((store,), images.label.to_numpy(), images.age.to_numpy(), np.ones(len(images)))
    if not config.pseudo.runs:
        return part, photos, ""
    path = run.part_dir(part.name) / LABELS_FILE
    missing = not path.exists()
    # Every process must have looked before the main process writes the file.
    accelerator.wait_for_everyone()
    if missing:
        _label_eval_photos(run, config, prepared, part.name, accelerator)
    part, photos = _add_eval_photos(config, prepared, part, photos, path)
    if accelerator.is_main_process:
        num_added, num_eval = int((part.train_rows >= len(images)).sum()), len(prepared.eval_table)
        print(f"{part.name}: {num_added} of {num_eval} eval photos join with pseudo-labels", file=sys.stderr)
    return part, photos, sha256(path)


def _add_eval_photos(config: Config, prepared: Prepared, part: Part, photos: Photos, path: Path) -> tuple[Part, Photos]:
    ids, num_train = pd.Index(prepared.eval_table.image_id), len(photos.labels)
    rows, pseudo_labels = read_pseudo_labels(path, ids)
    # Eval photos that were not selected get label 0 only to fill the array: train_rows does not contain them.
    labels = np.zeros(len(ids), photos.labels.dtype)
    labels[rows] = pseudo_labels
    all_photos = Photos(
        (*photos.stores, open_store(prepared, prepared.evaluation, config.data)),
        np.concatenate([photos.labels, labels]),
        np.concatenate([photos.ages, np.full(len(ids), UNKNOWN_AGE)]),
        np.concatenate([photos.weights, np.full(len(ids), config.pseudo.weight)]),
    )
    return replace(part, train_rows=np.concatenate([part.train_rows, num_train + np.sort(rows)])), all_photos


def read_pseudo_labels(path: Path, ids: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """(rows of `ids`, the image ids of the eval set; labels 0..17) of pseudo.csv, int [N] each. Raises UserError."""
    try:
        selected = pd.read_csv(path, dtype={"image_id": str, "label": int}, index_col=False, keep_default_na=False)
        rows, labels = ids.get_indexer(selected["image_id"]), selected["label"].to_numpy()
        valid = (rows >= 0).all() and np.isin(labels, range(NUM_CLASSES)).all() and len(set(rows)) == len(rows)
    except (OSError, ValueError, KeyError, OverflowError):
        valid = False
    if not valid:
        raise UserError(
            f"{path}: is damaged, holds other photos than the eval set, or a label that is not 0 to {NUM_CLASSES - 1}; "
            f"delete {path.parent} to train {path.parent.name} again"
        )
    return rows, labels


def _label_eval_photos(run: RunFolder, config: Config, prepared: Prepared, part: str, accelerator: Accelerator) -> None:
    """Predict the eval photos by the mean probability of the sources; write those that reach the threshold.

    Each process predicts its share of the photos; the main process writes.
    """
    sources = find_sources(run, config, prepared, part)
    views = canonical_views(config.pseudo.views, "pseudo.views")
    table = prepared.eval_table
    names = ", ".join(f"{source.name}/{name}" for source, name in sources)
    is_main, all_rows = accelerator.is_main_process, np.arange(len(table))
    rows = np.array_split(all_rows, accelerator.num_processes)[accelerator.process_index]
    with progress(f"{part} pseudo-labels by {names}", len(rows) * len(sources), "images", is_main) as advance:
        own_probs = np.zeros((len(rows), NUM_CLASSES))
        # One model after the other: together they may not fit into the GPU's memory.
        for source, name in sources:
            source_rows = _rows_for(source, name, prepared, rows, accelerator.device)
            [source_probs] = predict_parts([source_rows], views, on_batch=advance)
            own_probs += source_probs.astype(np.float64) / len(sources)
    probs = np.concatenate(gather_object([own_probs]) if accelerator.num_processes > 1 else [own_probs])
    if is_main:
        _write(run, config, part, table, probs, sources, views)
    accelerator.wait_for_everyone()


def _write(
    run: RunFolder,
    config: Config,
    part: str,
    table: pd.DataFrame,
    probs: np.ndarray,
    sources: Sequence[Source],
    views: Sequence[str],
) -> None:
    confidence, labels = probs.max(1), probs.argmax(1)
    passes = confidence >= config.pseudo.threshold
    selected = pd.DataFrame({"image_id": table.image_id, "label": labels, "confidence": confidence})[passes]
    counts = np.bincount(labels[passes], minlength=NUM_CLASSES).tolist()
    models = [{"run": s.name, "part": name, "checkpoint": sha256(s.weights_path(name))} for s, name in sources]
    record = {"sources": models, "views": list(views), "threshold": config.pseudo.threshold, "of": len(table)}
    record |= {"photos": len(selected), "classes": dict(zip(CLASS_NAMES, counts, strict=True))}
    folder = run.part_dir(part)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SOURCES_FILE, record)
    # The list is written last: it marks that the selection is complete.
    write_atomic(folder / LABELS_FILE, lambda beside: selected.to_csv(beside, index=False))


def _rows_for(source: RunFolder, part: str, prepared: Prepared, rows: np.ndarray, device: torch.device) -> PartRows:
    """Rows of the eval photos for one model, with the preprocessing and precision of its run."""
    config = source.config
    store = open_store(prepared, prepared.evaluation, config.data)
    return PartRows(source, config, part, store, rows, Hardware(device, DTYPES[config.run.predict_precision]))
