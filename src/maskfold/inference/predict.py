"""Fold models -> probabilities of the eval photos, and of the training photos out-of-fold, by the same views."""

from collections.abc import Sequence

import numpy as np

from maskfold.config import Config
from maskfold.data.dataset import PhotoDataset, make_loader
from maskfold.data.folds import split
from maskfold.data.prepare import Prepared, load_prepared
from maskfold.data.store import open_store
from maskfold.data.transforms import eval_transform
from maskfold.errors import UserError, nearest
from maskfold.files import sha256
from maskfold.models.classifier import build_classifier
from maskfold.predictions import Predictions, load_predictions
from maskfold.progress import progress
from maskfold.training.device import DTYPES, pick_device, pick_workers
from maskfold.training.engine import VIEWS, Hardware, predict_probs
from maskfold.training.fit import load_fold
from maskfold.training.runs import RunFolder


def canonical_views(views: Sequence[str]) -> tuple[str, ...]:
    """Each view once, in VIEWS' order, so that a set of views has one name. Raises UserError for an unknown one."""
    for view in views:
        if view not in VIEWS:
            raise UserError(f"--tta {view}: there are {', '.join(VIEWS)}{nearest(view, VIEWS)}")
    return tuple(view for view in VIEWS if view in views)


def prepared_of(run: RunFolder) -> Prepared:
    """The prepared folder a run was trained on. Raises UserError where it is gone or has changed."""
    prepared = load_prepared(run.config.data.prepared)
    run.check_same(run.config, prepared)
    return prepared


def checkpoint_hashes(run: RunFolder) -> dict[int, str]:
    """Finished fold -> sha256 of its weights. Raises UserError without a finished fold or with weights missing."""
    folds = run.finished_folds
    if not folds:
        raise UserError(f"{run.folder}: no fold is finished; train it first")
    for fold in folds:
        if not run.weights_path(fold).exists():
            raise UserError(
                f"{run.weights_path(fold)}: not found; delete {run.fold_dir(fold)} and train fold {fold} again"
            )
    return {fold: sha256(run.weights_path(fold)) for fold in folds}


def predict_run(run: RunFolder, prepared: Prepared, views: tuple[str, ...]) -> tuple[Predictions, Predictions]:
    """(eval, out-of-fold) predictions of all finished folds with these views, from eval-<tta>.npz and oof-<tta>.npz
    where the same checkpoints made them, else computed and written there.

    Raises UserError where the data has no eval side.
    """
    if prepared.evaluation is None:
        raise UserError(f"{prepared.meta['eval']}: the data has no eval side; no submission can be made")
    hashes = checkpoint_hashes(run)
    source = np.array([f"fold{fold}:{digest}" for fold, digest in hashes.items()])
    tta = "+".join(views)
    paths = {side: run.folder / f"{side}-{tta}.npz" for side in ("eval", "oof")}
    if all(path.exists() for path in paths.values()):
        known = {side: load_predictions(path, out_of_fold=side == "oof") for side, path in paths.items()}
        if all(found.source is not None and np.array_equal(found.source, source) for found in known.values()):
            return known["eval"], known["oof"]
    evaluation, oof = _compute(run, run.config, prepared, views, source)
    evaluation.save(paths["eval"])
    oof.save(paths["oof"])
    return evaluation, oof


def _compute(run: RunFolder, config: Config, prepared: Prepared, views: tuple[str, ...], source: np.ndarray):
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
