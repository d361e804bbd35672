"""All fold models of a run over all photos: the part of inference that needs torch."""

import numpy as np

from maskfold.config import Config
from maskfold.data.dataset import PhotoDataset, make_loader
from maskfold.data.folds import split
from maskfold.data.prepare import Prepared
from maskfold.data.store import open_store
from maskfold.data.transforms import eval_transform
from maskfold.models.classifier import build_classifier
from maskfold.predictions import Predictions
from maskfold.progress import progress
from maskfold.training.checkpoints import load_fold
from maskfold.training.device import DTYPES, pick_device, pick_workers
from maskfold.training.engine import Hardware, predict_probs
from maskfold.training.runs import RunFolder


def forward_run(run: RunFolder, config: Config, prepared: Prepared, views: tuple[str, ...], source: np.ndarray):
    """Compute (eval, out-of-fold) predictions; `source` is kept with them."""
    device = pick_device(config.run)
    hardware = Hardware(device, DTYPES[config.run.predict_precision])
    images, labels = prepared.images, prepared.images.label.to_numpy()
    transform = eval_transform(config.data)
    trained_on = PhotoDataset(open_store(prepared, images, config.data), labels, transform)
    asked = PhotoDataset(open_store(prepared, prepared.evaluation, config.data), None, transform)
    folds = run.finished_folds
    valid = {fold: split(images, prepared.folds, fold)[1] for fold in folds}
    shared = {
        "batch_size": config.optim.batch_size,
        "shuffle": False,
        "workers": pick_workers(config.data.num_workers, device),
        "pin": device.type == "cuda",
    }
    eval_loader = make_loader(asked, np.arange(len(prepared.evaluation)), **shared)
    # Its weights all come from the run's own files: nothing is downloaded, no file given for training is needed.
    model = build_classifier(
        config.model_copy(update={"model": config.model.model_copy(update={"pretrained": False, "weights": None})})
    )
    model = model.to(device)
    total = np.zeros((len(prepared.evaluation), 1))
    parts = []
    amount = len(folds) * len(prepared.evaluation) + sum(map(len, valid.values()))
    with progress(f"predicting {run.name} ({'+'.join(views)})", amount, "images") as advance:
        for fold in folds:
            load_fold(model, run, fold)
            rows, probs = predict_probs(model, make_loader(trained_on, valid[fold], **shared), hardware, views, advance)
            table = images.iloc[rows]
            parts.append(
                (table.image_id.to_numpy(), probs, labels[rows], np.full(len(rows), fold), table.person_id.to_numpy())
            )
            rows, probs = predict_probs(model, eval_loader, hardware, views, advance)
            total = total + probs.astype(np.float64)
    ids = prepared.evaluation.image_id.to_numpy()[rows]
    evaluation = Predictions(ids, (total / len(folds)).astype(np.float32), source=source)
    oof = Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)), source=source)
    known = set(oof.image_id)
    return evaluation, oof.aligned([name for name in images.image_id if name in known])
