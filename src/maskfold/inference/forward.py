"""All models of some runs over all photos: the part of inference that needs torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from maskfold.config.experiment import Config
from maskfold.data.folds import split
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.loading.dataset import PhotoDataset
from maskfold.loading.photo_loader import PhotoLoader
from maskfold.loading.sampler import Batches
from maskfold.loading.store import open_store
from maskfold.loading.transforms import EvalTransform
from maskfold.models.classifier import Classifier
from maskfold.models.device import DTYPES, free_device_memory, make_fast, pick_device, pick_workers
from maskfold.probabilities import OutOfFold, Predictions
from maskfold.progress import progress
from maskfold.runs.run_folder import RunFolder, fold_name
from maskfold.training.checkpoints import finished_model
from maskfold.training.engine import Hardware, predict_probs


@dataclass(frozen=True)
class Member:
    """A finished run, the data it was trained on, and what its predictions are made from."""

    run: RunFolder
    config: Config
    prepared: Prepared
    source: np.ndarray


@dataclass(frozen=True)
class _Job:
    """Photos that some models look at together; `asked` says whose model it is: (member, part, side)."""

    dataset: PhotoDataset
    rows: np.ndarray
    hardware: Hardware
    batch_size: int
    workers: int
    asked: list[tuple[int, str, str]]
    models: list[Classifier]


def forward(members: Sequence[Member], views: tuple[str, ...]) -> list[tuple[Predictions, OutOfFold]]:
    """(eval, out-of-fold) predictions of each member.

    Photos are read once for all models that look at them alike: folds, views, and members of equal preprocessing.
    Raises UserError where the GPU's memory does not hold the models together.
    """
    jobs = list(_jobs(members).values())
    device = jobs[0].hardware.device
    found: dict[tuple[int, str, str], np.ndarray] = {}
    task = f"predicting {', '.join(member.run.name for member in members)} ({'+'.join(views)})"
    with progress(task, sum(len(job.rows) * len(job.models) for job in jobs), "images") as advance:
        while jobs:
            # A model is freed after the last job that needs it.
            job = jobs.pop(0)
            batches = Batches(job.rows, job.batch_size, shuffle=False)
            pin = job.hardware.device.type == "cuda"
            try:
                with PhotoLoader(job.dataset, batches, job.workers, pin) as loader:
                    _, probs = predict_probs(job.models, loader, job.hardware, views, advance)
            except torch.OutOfMemoryError as fault:
                raise UserError(
                    f"the GPU's memory does not hold {len(job.models)} models; submit fewer runs at a time first: "
                    "their predictions are kept for the next blend"
                ) from fault
            found |= dict(zip(job.asked, probs, strict=True))
            del job, loader
            free_device_memory(device)
    return [_gathered(at, member, found) for at, member in enumerate(members)]


def _jobs(members: Sequence[Member]) -> dict[tuple, _Job]:
    """What there is to predict, by what the models look at."""
    jobs: dict[tuple, _Job] = {}
    for at, member in enumerate(members):
        run, config, prepared = member.run, member.config, member.prepared
        device = pick_device(config.run)
        make_fast(device)
        hardware, size = Hardware(device, DTYPES[config.run.predict_precision]), config.optim.batch_size
        everything = np.arange(len(prepared.eval_table))
        stores = {"oof": open_store(prepared, prepared.images, config.data)}
        stores["eval"] = open_store(prepared, prepared.eval_table, config.data)
        for part in run.finished_parts:
            model = finished_model(run, config, part, device)
            sides = {"eval": everything}
            if part in (folds := {fold_name(fold): fold for fold in run.finished_folds}):
                sides["oof"] = split(prepared.images, prepared.folds, folds[part])[1]
            for side, rows in sides.items():
                # The batch size too: what a member answers depends on nobody's company, not even in the last bit.
                key = (stores[side].path, config.data.image_size, rows.tobytes(), hardware, size)
                if key not in jobs:
                    dataset = PhotoDataset(stores[side], None, EvalTransform(config.data))
                    workers = pick_workers(config.data.num_workers, device)
                    jobs[key] = _Job(dataset, rows, hardware, size, workers, [], [])
                jobs[key].asked.append((at, part, side))
                jobs[key].models.append(model)
    return jobs


def _gathered(at: int, member: Member, found: dict[tuple[int, str, str], np.ndarray]) -> tuple[Predictions, OutOfFold]:
    """The mean of a member's parts on the eval side, and each fold's own photos one after the other."""
    run, prepared, images = member.run, member.prepared, member.prepared.images
    of_parts = [found[at, part, "eval"].astype(np.float64) for part in run.finished_parts]
    mean = (sum(of_parts, start=np.zeros(())) / len(of_parts)).astype(np.float32)
    evaluation = Predictions(prepared.eval_table.image_id.to_numpy(), mean, source=member.source)
    pieces = []
    for fold in run.finished_folds:
        rows = split(images, prepared.folds, fold)[1]
        table, probs = images.iloc[rows], found[at, fold_name(fold), "oof"]
        columns = (table[name].to_numpy() for name in ("image_id", "label", "person_id"))
        ids, labels, people = columns
        pieces.append((ids, probs, labels, np.full(len(rows), fold), people))
    ids, probs, labels, folds, people = (np.concatenate(column) for column in zip(*pieces, strict=True))
    oof = OutOfFold(ids, probs, labels, folds, people, member.source)
    known = set(oof.image_id)
    return evaluation, oof.aligned([name for name in images.image_id if name in known])
