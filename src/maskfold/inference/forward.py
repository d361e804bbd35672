"""All models of a run over all photos: the part of inference that needs torch."""

import numpy as np

from maskfold.config import Config, replaced
from maskfold.data.dataset import Batches, PhotoDataset, make_loader
from maskfold.data.folds import split
from maskfold.data.prepared import Prepared
from maskfold.data.store import open_store
from maskfold.data.transforms import eval_transform
from maskfold.models.classifier import build_classifier
from maskfold.predictions import Predictions
from maskfold.progress import progress
from maskfold.training.checkpoints import load_part
from maskfold.training.device import DTYPES, pick_device, pick_workers
from maskfold.training.engine import Hardware, predict_probs
from maskfold.training.runs import RunFolder, fold_name


def forward_run(run: RunFolder, config: Config, prepared: Prepared, views: tuple[str, ...], source: np.ndarray):
    """Compute (eval, out-of-fold) predictions; `source` is kept with them."""
    device = pick_device(config.run)
    hardware = Hardware(device, DTYPES[config.run.predict_precision])
    images, labels = prepared.images, prepared.images.label.to_numpy()
    transform = eval_transform(config.data)
    trained_on = PhotoDataset(open_store(prepared, images, config.data), labels, transform)
    asked = PhotoDataset(open_store(prepared, prepared.evaluation, config.data), None, transform)
    folds = {fold_name(fold): fold for fold in run.finished_folds}
    valid = {part: split(images, prepared.folds, fold)[1] for part, fold in folds.items()}
    workers = pick_workers(config.data.num_workers, device)

    def loader(dataset: PhotoDataset, rows: np.ndarray):
        batches = Batches(rows, config.optim.batch_size, shuffle=False)
        return make_loader(dataset, batches, workers, pin=device.type == "cuda")

    # Its weights all come from the run's own files: nothing is downloaded, no file given for training is needed.
    model = build_classifier(replaced(config, model={"pretrained": False, "weights": None})).to(device)
    eval_rows = np.arange(len(prepared.evaluation))
    total, pieces = 0.0, []
    amount = len(run.finished_parts) * len(eval_rows) + sum(map(len, valid.values()))
    with progress(f"predicting {run.name} ({'+'.join(views)})", amount, "images") as advance:
        for part in run.finished_parts:
            load_part(model, run, part)
            if part in folds:
                rows, probs = predict_probs(model, loader(trained_on, valid[part]), hardware, views, advance)
                table = images.iloc[rows]
                ids, people = table.image_id.to_numpy(), table.person_id.to_numpy()
                pieces.append((ids, probs, labels[rows], np.full(len(rows), folds[part]), people))
            _, probs = predict_probs(model, loader(asked, eval_rows), hardware, views, advance)
            total = total + probs.astype(np.float64)
    mean = (total / len(run.finished_parts)).astype(np.float32)
    evaluation = Predictions(prepared.evaluation.image_id.to_numpy(), mean, source=source)
    oof = Predictions(*(np.concatenate(column) for column in zip(*pieces, strict=True)), source=source)
    known = set(oof.image_id)
    return evaluation, oof.aligned([name for name in images.image_id if name in known])
