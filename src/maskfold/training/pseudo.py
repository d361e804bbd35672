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

from maskfold.config import Config, selects_on_validation
from maskfold.data.dataset import PhotoDataset, make_loader
from maskfold.data.prepared import Prepared
from maskfold.data.sampling import Batches
from maskfold.data.store import Store, open_store
from maskfold.data.transforms import eval_transform
from maskfold.errors import UserError
from maskfold.files import read_json, sha256, write_atomic, write_json
from maskfold.labels import CLASS_NAMES, NUM_CLASSES
from maskfold.models.targets import UNKNOWN_AGE
from maskfold.progress import progress
from maskfold.training.checkpoints import finished_model
from maskfold.training.device import DTYPES, pick_workers
from maskfold.training.engine import Hardware, predict_probs
from maskfold.training.feed import Part, Photos
from maskfold.training.runs import FULL, RunFolder, find_run, fold_name
from maskfold.training.views import canonical_views

LABELS, SOURCES = "pseudo.csv", "pseudo.json"
Source = tuple[RunFolder, str]


def check_pseudo(run: RunFolder, config: Config, prepared: Prepared, parts: Sequence[str]) -> None:
    """Raises UserError where a part that is to be started can't have its pseudo-labels."""
    if not config.pseudo.runs:
        return
    canonical_views(config.pseudo.views, "pseudo.views")
    if prepared.evaluation is None:
        raise UserError(f"pseudo.runs: {prepared.meta['eval']}: the data has no eval side to label")
    for part in parts:
        find_sources(run, config, prepared, part)


def find_sources(run: RunFolder, config: Config, prepared: Prepared, part: str) -> list[Source]:
    """(run, part) of each model that may label eval photos for a part's training.

    A fold has the models of the same fold; the refit on everybody, which nothing is scored on, those of all folds.
    Raises UserError where a run is missing, unfinished, of other people or folds, or knows the fold's labels.
    """
    found = []
    for given in dict.fromkeys(config.pseudo.runs):
        source = RunFolder(find_run(Path(given)))
        if source.folder.resolve() == run.folder.resolve():
            raise UserError(f"pseudo.runs: {given} is this run itself; name finished ones")
        if source.provenance["identity"] != prepared.identity:
            raise UserError(
                f"pseudo.runs: {source.folder} was trained on other photos, labels or folds than {prepared.folder}: "
                "its models may know people that are to be validated on; name runs on the same folds"
            )
        if selects_on_validation(source.config):
            raise UserError(
                f"pseudo.runs: {source.folder} was selected on its own validation folds (run.keep, optim.early_stop or "
                "optim.schedule plateau), and so would its labels be; name a run that keeps the last epoch"
            )
        wanted = [fold_name(fold) for fold in source.finished_folds] if part == FULL else [part]
        if not wanted or not all(source.finished(name) and source.weights_path(name).exists() for name in wanted):
            raise UserError(f"pseudo.runs: {source.folder} has no finished {part}; train it first")
        for name in wanted:
            _check_ancestors(source, name)
        found += [(source, name) for name in wanted]
    return found


def _check_ancestors(source: RunFolder, part: str) -> None:
    """Raises UserError where a model was trained on labels of another fold's models, or it can't be known."""
    if not source.config.pseudo.runs:
        return
    path = source.part_dir(part) / SOURCES
    held = read_json(path, f"without it nobody knows what {part} was trained on; train {source.folder} anew")
    others = [model["part"] for model in held["sources"] if model["part"] != part]
    if others:
        raise UserError(
            f"pseudo.runs: {source.folder}: {part} was itself trained on pseudo-labels of {others[0]}, whose model "
            f"knows the people that {part} leaves out; name another run"
        )


def photos_of(
    run: RunFolder, config: Config, prepared: Prepared, store: Store, part: Part, accelerator: Accelerator
) -> tuple[Part, Photos, str]:
    """(part, all that it may look at, what identifies the choice of it).

    With pseudo-labels, the eval side lies behind the training photos, and its confident ones are among the part's
    training rows. They are chosen once and kept in its folder: pseudo.csv, and pseudo.json that names the models.
    """
    images = prepared.images
    photos = Photos((store,), images.label.to_numpy(), images.age.to_numpy(), np.ones(len(images)))
    if not config.pseudo.runs:
        return part, photos, ""
    path = run.part_dir(part.name) / LABELS
    with accelerator.main_process_first():
        if not path.exists():
            _choose(run, config, prepared, part.name, accelerator.device)
    part, photos = _joined(config, prepared, part, photos, path)
    if accelerator.is_main_process:
        joined, eval_photos = int((part.train_rows >= len(images)).sum()), len(prepared.evaluation)
        print(f"{part.name}: {joined} of {eval_photos} eval photos join with pseudo-labels", file=sys.stderr)
    return part, photos, sha256(path)


def _joined(config: Config, prepared: Prepared, part: Part, photos: Photos, path: Path) -> tuple[Part, Photos]:
    chosen = pd.read_csv(path, dtype={"image_id": str})
    ids = pd.Index(prepared.evaluation.image_id)
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


def _choose(run: RunFolder, config: Config, prepared: Prepared, part: str, device: torch.device) -> None:
    """Label the eval photos by the mean of the sources' probabilities and write those that pass the threshold."""
    sources = find_sources(run, config, prepared, part)
    views = canonical_views(config.pseudo.views, "pseudo.views")
    table, folder = prepared.evaluation, run.part_dir(part)
    names = ", ".join(f"{source.name}/{name}" for source, name in sources)
    with progress(f"{part} pseudo-labels by {names}", len(table) * len(sources), "images") as advance:
        probs = sum(_predict(source, name, prepared, views, device, advance) / len(sources) for source, name in sources)
    confidence, labels = probs.max(1), probs.argmax(1)
    passes = confidence >= config.pseudo.threshold
    chosen = pd.DataFrame({"image_id": table.image_id, "label": labels, "confidence": confidence})[passes]
    counts = np.bincount(labels[passes], minlength=NUM_CLASSES).tolist()
    hashes = [{"run": s.name, "part": name, "checkpoint": sha256(s.weights_path(name))} for s, name in sources]
    told = {"sources": hashes, "views": list(views), "threshold": config.pseudo.threshold, "of": len(table)}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SOURCES, told | {"photos": len(chosen), "classes": dict(zip(CLASS_NAMES, counts, strict=True))})
    # Last: the choice is made once the list is there.
    write_atomic(folder / LABELS, lambda beside: chosen.to_csv(beside, index=False))


def _predict(
    source: RunFolder, part: str, prepared: Prepared, views: Sequence[str], device: torch.device, advance
) -> np.ndarray:
    """float64 [M, 18] of the eval photos, by one model and its own view of them."""
    config = source.config
    dataset = PhotoDataset(open_store(prepared, prepared.evaluation, config.data), None, eval_transform(config.data))
    batches = Batches(np.arange(len(dataset.store)), config.optim.batch_size, shuffle=False)
    workers = pick_workers(config.data.num_workers, device)
    loader = make_loader(dataset, batches, workers, pin=device.type == "cuda")
    model, hardware = (
        finished_model(source, config, part, device),
        Hardware(device, DTYPES[config.run.predict_precision]),
    )
    _, [probs] = predict_probs([model], loader, hardware, views, lambda photos: advance(photos, ""))
    return probs.astype(np.float64)
