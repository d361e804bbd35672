"""Training a run: everything is joined here for one fold, and one fold follows the other."""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from maskfold.analysis.metrics import scores
from maskfold.config import Config, config_hash, replaced
from maskfold.data.dataset import PhotoDataset, make_loader
from maskfold.data.folds import split
from maskfold.data.prepare import Prepared, ensure_prepared
from maskfold.data.store import open_store
from maskfold.data.transforms import eval_transform, train_transform
from maskfold.errors import UserError
from maskfold.labels import NUM_CLASSES
from maskfold.models.classifier import build_classifier
from maskfold.models.losses import build_loss
from maskfold.predictions import Predictions
from maskfold.progress import progress
from maskfold.training.checkpoints import load_fold, load_state, save_state, save_weights
from maskfold.training.device import DTYPES, pick_device, pick_precisions, pick_workers
from maskfold.training.engine import Hardware, predict_probs, train_one_epoch
from maskfold.training.runs import NAME, RunFolder, runs_root
from maskfold.training.schedule import make_optimizer, make_scheduler
from maskfold.training.tracking import Tracker


def fit_run(config: Config, name: str, folds: list[int] | None = None, fresh: bool = False) -> tuple[RunFolder, dict]:
    """Train the folds that are not finished (all of them without `folds`), and return the run with its summary.

    Raises UserError where the run can't be started or gone on with; nothing of it has been touched then.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"run name {name!r}: letters, digits and . _ + - are expected; give another --name")
    run = RunFolder(runs_root() / name)
    device = pick_device(config.run)
    if fresh or not run.started:
        # What can't be trained is told before anything is deleted or written.
        pick_precisions(config.run, device)
        build_classifier(config)
    data = config.data
    prepared = ensure_prepared(data.root, data.prepared, data.folds, data.fold_seed, data.corrections)
    wanted = list(range(prepared.num_folds)) if folds is None else sorted(set(folds))
    if wrong := [fold for fold in wanted if fold not in range(prepared.num_folds)]:
        raise UserError(
            f"--folds {wrong[0]}: there are folds 0 to {prepared.num_folds - 1} in {prepared.folder / 'folds.csv'}"
        )
    with run.lock():
        if run.started and not fresh:
            config = resolved(config, prepared, device, run.config)
            run.check_same(config, prepared)
        else:
            config = resolved(config, prepared, device)
            run.clear()
            run.start(config, prepared)
        for fold in wanted:
            if run.finished(fold):
                print(f"fold {fold}: finished before", file=sys.stderr)
            else:
                fit_fold(run, config, prepared, fold, device)
        return run, run.gather(prepared)


def resolved(config: Config, prepared: Prepared, device: torch.device, recorded: Config | None = None) -> Config:
    """The config with every choice made: places, folds as they stand, precision; those of the first start are kept."""
    run = config.run
    if recorded is not None:
        kept = {
            key: getattr(recorded.run, key) for key in ("precision", "predict_precision") if getattr(run, key) == "auto"
        }
        run = run.model_copy(update=kept)
    precision, predict_precision = pick_precisions(run, device)
    return replaced(
        config,
        data={
            "root": Path(prepared.meta["root"]),
            "prepared": prepared.folder.absolute(),
            "folds": prepared.num_folds,
            "fold_seed": prepared.meta["fold_seed"],
        },
        run={"precision": precision, "predict_precision": predict_precision},
    )


def fit_fold(run: RunFolder, config: Config, prepared: Prepared, fold: int, device: torch.device) -> None:
    """Train one fold from its last checkpoint on, and write its weights, metrics.jsonl and oof.npz."""
    optim, images = config.optim, prepared.images
    labels = images.label.to_numpy()
    train_rows, valid_rows = split(images, prepared.folds, fold)
    store = open_store(prepared, images, config.data)
    belongs = f"{config_hash(config)} {prepared.meta['fingerprint']} fold {fold}"
    state = load_state(run, fold, belongs)

    workers = pick_workers(config.data.num_workers, device)
    trained_on = PhotoDataset(store, labels, train_transform(config.data), config.seed)
    shared = {"batch_size": optim.batch_size, "workers": workers, "pin": device.type == "cuda"}
    loader = make_loader(trained_on, train_rows, shuffle=True, **shared)
    valid_loader = make_loader(
        PhotoDataset(store, labels, eval_transform(config.data)), valid_rows, shuffle=False, **shared
    )

    torch.manual_seed(config.seed)
    model = build_classifier(config).to(device)
    loss_of = build_loss(config.loss, np.bincount(labels[train_rows], minlength=NUM_CLASSES), device)
    optimizer = make_optimizer(model, optim)
    scheduler = make_scheduler(optimizer, optim, len(loader))
    scaler = torch.amp.GradScaler(device.type, enabled=config.run.precision == "fp16")
    train_on = Hardware(device, DTYPES[config.run.precision])
    predict_on = Hardware(device, DTYPES[config.run.predict_precision])
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}

    history, best = [], {"score": -1.0, "weights": {}}
    if state is not None:
        history, best = state["history"], state["best"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
        print(f"fold {fold}: goes on after epoch {len(history)}", file=sys.stderr)
    run.write_metrics(fold, history)
    tracker = Tracker(config, run.folder, fold)
    for epoch in range(len(history) + 1, optim.epochs + 1):
        start = time.perf_counter()
        loader.sampler.set_epoch(epoch)
        # Dropout's noise is the epoch's own, so a resumed run meets the same.
        torch.manual_seed(config.seed * 10_007 + fold * 1_009 + epoch)
        lr = optimizer.param_groups[0]["lr"]
        with progress(f"fold {fold} epoch {epoch}/{optim.epochs}", len(train_rows), "images") as advance:
            on_batch = _every_few(advance)
            loss = train_one_epoch(
                model, loader, loss_of, optimizer, scheduler, scaler, train_on, optim.accum_steps, on_batch
            )
        trained = time.perf_counter()
        if not np.isfinite(loss):
            raise UserError(
                f"{run.folder}: the loss is {loss} in epoch {epoch} of fold {fold}; lower optim.lr ({optim.lr}), "
                f"lengthen optim.warmup_epochs, or use --run.precision fp32; the checkpoint of epoch {epoch - 1} stands"
            )
        _, probs = predict_probs(model, valid_loader, predict_on)
        found = scores(labels[valid_rows], probs.argmax(1))
        row = {"epoch": epoch, "lr": lr, "train_loss": loss, "val_loss": _log_loss(probs, labels[valid_rows]), **found}
        row |= {"seconds": time.perf_counter() - start, "images_per_second": len(train_rows) / (trained - start)}
        history.append(row)
        if config.run.keep == "best" and found["macro_f1"] > best["score"]:
            best = {"score": found["macro_f1"], "weights": {k: v.cpu().clone() for k, v in model.state_dict().items()}}
        # The metrics go first: an epoch whose checkpoint exists is never missing in them.
        run.write_metrics(fold, history)
        save_state(
            run,
            fold,
            {"belongs": belongs, "history": history, "best": best}
            | {name: part.state_dict() for name, part in parts.items()},
        )
        tracker.log(row)
        _tell(fold, optim.epochs, row)
    save_weights(run, fold, best["weights"] if config.run.keep == "best" else model.state_dict())
    # Predicted from the file, so that oof.npz is what these weights say to whoever loads them.
    load_fold(model, run, fold)
    rows, probs = predict_probs(model, valid_loader, predict_on)
    table = images.iloc[rows]
    ids, people = table.image_id.to_numpy(), table.person_id.to_numpy()
    oof = Predictions(ids, probs, labels[rows], np.full(len(rows), fold), people)
    tracker.finish(scores(oof.label, oof.answers))
    run.finish(fold, oof)


def _log_loss(probs: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(np.maximum(probs[np.arange(len(labels)), labels], 1e-12)).mean())


def _every_few(advance, batches: int = 10):
    """Show the loss of every tenth batch: to read it, the host waits for the device."""
    count = 0
    shown = ""

    def on_batch(photos: int, loss: torch.Tensor) -> None:
        nonlocal count, shown
        if count % batches == 0:
            shown = f"loss {float(loss):.3f}"
        count += 1
        advance(photos, shown)

    return on_batch


def _tell(fold: int, epochs: int, row: dict) -> None:
    print(
        f"fold {fold} epoch {row['epoch']}/{epochs}  loss {row['train_loss']:.3f} / {row['val_loss']:.3f}  "
        f"macro F1 {row['macro_f1']:.4f}  accuracy {row['accuracy']:.4f}  {row['images_per_second']:,.0f} images/s",
        file=sys.stderr,
        flush=True,
    )
