"""Pseudo-labels: eval photos that join a fold's training, labelled by models that never saw that fold's people.

Fold k's come from the fold-k models of other runs alone. Any other model has learnt from fold k's people, and would
carry their labels into the training of the model that is scored on them.
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
from maskfold.training.pseudo_sources import SOURCES, Source, find_sources

LABELS = "pseudo.csv"


def photos_of(job: FoldJob, accelerator: Accelerator) -> tuple[Part, Photos, str]:
    """(part, all that it may look at, what identifies the choice of it).

    With pseudo-labels, the eval side lies behind the training photos, and its confident ones are among the part's
    training rows. They are chosen once and kept in its folder: pseudo.csv, and pseudo.json that names the models.
    """
    run, config, prepared, store, part = job.run, job.config, job.prepared, job.store, job.part
    images = prepared.images
    photos = Photos((store,), images.label.to_numpy(), images.age.to_numpy(), np.ones(len(images)))
    if not config.pseudo.runs:
        return part, photos, ""
    path = run.part_dir(part.name) / LABELS
    missing = not path.exists()
    # All have looked before the first one writes.
    accelerator.wait_for_everyone()
    if missing:
        _choose(run, config, prepared, part.name, accelerator)
    part, photos = _joined(config, prepared, part, photos, path)
    if accelerator.is_main_process:
        joined, eval_photos = int((part.train_rows >= len(images)).sum()), len(prepared.eval_table)
        print(f"{part.name}: {joined} of {eval_photos} eval photos join with pseudo-labels", file=sys.stderr)
    return part, photos, sha256(path)


def _joined(config: Config, prepared: Prepared, part: Part, photos: Photos, path: Path) -> tuple[Part, Photos]:
    chosen = pd.read_csv(path, dtype={"image_id": str})
    ids = pd.Index(prepared.eval_table.image_id)
    at, first = ids.get_indexer(chosen.image_id), len(photos.labels)
    if (at < 0).any() or not chosen.label.isin(range(NUM_CLASSES)).all():
        raise UserError(f"{path}: holds other photos than the eval side; delete {path.parent} to train it anew")
    # Photos that did not pass are in no list of rows; they have a label only to keep the arrays whole.
    labels = np.zeros(len(ids), photos.labels.dtype)
    labels[at] = chosen.label
    joined = Photos(
        (*photos.stores, open_store(prepared, prepared.evaluation, config.data)),
        np.concatenate([photos.labels, labels]),
        np.concatenate([photos.ages, np.full(len(ids), UNKNOWN_AGE)]),
        np.concatenate([photos.weights, np.full(len(ids), config.pseudo.weight)]),
    )
    return replace(part, train_rows=np.concatenate([part.train_rows, first + np.sort(at)])), joined


def _choose(run: RunFolder, config: Config, prepared: Prepared, part: str, accelerator: Accelerator) -> None:
    """Label the eval photos by the mean of the sources' probabilities and write those that pass the threshold.

    Each process predicts its share of the photos; the first one writes.
    """
    sources = find_sources(run, config, prepared, part)
    views = canonical_views(config.pseudo.views, "pseudo.views")
    table = prepared.eval_table
    names = ", ".join(f"{source.name}/{name}" for source, name in sources)
    lead, rows = accelerator.is_main_process, np.arange(len(table))
    mine = np.array_split(rows, accelerator.num_processes)[accelerator.process_index]
    with progress(f"{part} pseudo-labels by {names}", len(mine) * len(sources), "images", lead) as advance:
        share = np.zeros((len(mine), NUM_CLASSES))
        # One model after the other: a GPU's memory may not hold all of them.
        for source, name in sources:
            wanted = _rows_of(source, name, prepared, mine, accelerator.device)
            [of_model] = predict_parts([wanted], views, on_batch=advance)
            share += of_model.astype(np.float64) / len(sources)
    probs = np.concatenate(gather_object([share]) if accelerator.num_processes > 1 else [share])
    if lead:
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
    chosen = pd.DataFrame({"image_id": table.image_id, "label": labels, "confidence": confidence})[passes]
    counts = np.bincount(labels[passes], minlength=NUM_CLASSES).tolist()
    hashes = [{"run": s.name, "part": name, "checkpoint": sha256(s.weights_path(name))} for s, name in sources]
    told = {"sources": hashes, "views": list(views), "threshold": config.pseudo.threshold, "of": len(table)}
    folder = run.part_dir(part)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SOURCES, told | {"photos": len(chosen), "classes": dict(zip(CLASS_NAMES, counts, strict=True))})
    # Last: the choice is made once the list is there.
    write_atomic(folder / LABELS, lambda beside: chosen.to_csv(beside, index=False))


def _rows_of(source: RunFolder, part: str, prepared: Prepared, rows: np.ndarray, device: torch.device) -> PartRows:
    """Some rows of the eval photos for one model, with the source's own preprocessing and precision."""
    config = source.config
    store = open_store(prepared, prepared.evaluation, config.data)
    return PartRows(source, config, part, store, rows, Hardware(device, DTYPES[config.run.predict_precision]))
