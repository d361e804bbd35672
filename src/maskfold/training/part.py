"""Training one part of a run, a fold or everybody, from its last checkpoint to its weights."""

import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from timm.utils import ModelEmaV3
from torch.nn.parallel import DistributedDataParallel

from maskfold.analysis.metrics import scores
from maskfold.config import Config, config_hash
from maskfold.data.dataset import Batches, PhotoDataset, make_loader
from maskfold.data.prepare import Prepared
from maskfold.data.store import Store
from maskfold.data.transforms import eval_transform, train_transform
from maskfold.errors import UserError
from maskfold.labels import NUM_CLASSES
from maskfold.models.classifier import build_classifier
from maskfold.models.losses import build_loss
from maskfold.predictions import Predictions
from maskfold.progress import progress
from maskfold.training.checkpoints import load_part, load_state, save_state, save_weights
from maskfold.training.device import DTYPES, pick_workers
from maskfold.training.engine import Hardware, Trainee, predict_probs, train_one_epoch
from maskfold.training.features import FeatureLoader, Features
from maskfold.training.runs import RunFolder
from maskfold.training.schedule import lr_factor, make_optimizer, set_lr, stops_early
from maskfold.training.stopping import Stop
from maskfold.training.tracking import Tracker

# A loss is shown, and a stop agreed on among processes, every so many updates: both make the host wait for the device.
UPDATES_BETWEEN_LOOKS = 10


@dataclass
class Part:
    """A fold ('fold0', ...) or everybody ('full'): which rows train it, which validate it (none for 'full')."""

    name: str
    train_rows: np.ndarray
    valid_rows: np.ndarray
    seed: int


def fit_part(
    run: RunFolder, config: Config, prepared: Prepared, store: Store, part: Part, accelerator: Accelerator, stop: Stop
) -> None:
    """Train a part and write its weights, metrics.jsonl and, for a fold, oof.npz. Interrupted, it goes on where it was."""
    training = _Training(run, config, prepared, store, part, accelerator, stop)
    training.go_on()
    while not training.ended():
        training.epoch()
    training.finish()


class _Training:
    """A part under way. All that decides a number is in `state()`, or follows from the config and the epoch."""

    def __init__(self, run, config, prepared, store, part, accelerator, stop):
        self.run, self.config, self.part, self.stop = run, config, part, stop
        self.accelerator, self.store, self.images = accelerator, store, prepared.images
        self.labels = self.images.label.to_numpy()
        self.belongs = f"{config_hash(config)} {prepared.meta['fingerprint']} {part.name}"
        self.predict_on = Hardware(accelerator.device, DTYPES[config.run.predict_precision])
        self.cached = config.model.frozen_epochs == "all" and config.model.cache_features

        torch.manual_seed(config.seed)
        self.classifier = build_classifier(config).to(accelerator.device)
        # With cached features the head alone is trained, saved and averaged.
        self.model = self.classifier.head if self.cached else self.classifier
        self.ema = ModelEmaV3(self.model, decay=config.optim.ema_decay) if config.optim.ema_decay else None
        counts = np.bincount(self.labels[part.train_rows], minlength=NUM_CLASSES)
        self.optimizer = accelerator.prepare_optimizer(make_optimizer(self.classifier, config.optim))
        self.trainee = Trainee(
            accelerator=accelerator,
            model=self.model,
            stepped=self.model,
            optimizer=self.optimizer,
            loss_of=build_loss(config.loss, counts, accelerator.device),
            ema=self.ema,
            accum_steps=config.optim.accum_steps,
            clip_norm=config.optim.clip_norm,
        )
        self.loader, self.valid_loader = self._loaders()
        self.history: list[dict] = []
        self.best = {"score": -1.0, "weights": {}}
        self.step, self.total = 0, None
        self.frozen: bool | None = None

    def _loaders(self):
        config, part, data = self.config, self.part, self.config.data
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        batches = Batches(part.train_rows, config.optim.batch_size, True, part.seed, rank, world)
        # Rows in a row for each process: put together they are in order again.
        mine = np.array_split(part.valid_rows, world)[rank]
        valid_batches = Batches(mine, config.optim.batch_size, shuffle=False)
        workers, pin = pick_workers(data.num_workers, self.accelerator.device), self.accelerator.device.type == "cuda"
        if self.cached:
            features = Features(self.classifier, self.store, eval_transform(data), config.optim.batch_size, workers)
            views = ("none",) if data.augment == "none" else ("none", "hflip")
            train_on = Hardware(self.accelerator.device, DTYPES[config.run.precision])
            return (
                FeatureLoader(features, self.labels, batches, views, train_on),
                FeatureLoader(features, self.labels, valid_batches, ("none",), self.predict_on),
            )
        train = PhotoDataset(self.store, self.labels, train_transform(data), part.seed)
        valid = PhotoDataset(self.store, self.labels, eval_transform(data))
        return make_loader(train, batches, workers, pin), make_loader(valid, valid_batches, workers, pin)

    # What is kept

    def state(self) -> dict:
        parts = {"model": self.model, "optimizer": self.optimizer}
        if self.ema is not None:
            parts["ema"] = self.ema.module
        if self.accelerator.scaler is not None:
            parts["scaler"] = self.accelerator.scaler
        kept = {name: part.state_dict() for name, part in parts.items()}
        progressed = {"history": self.history, "best": self.best, "step": self.step, "total": self.total}
        return {"belongs": self.belongs, **progressed, **kept}

    def save(self) -> None:
        if self.accelerator.is_main_process:
            save_state(self.run, self.part.name, self.state())

    def go_on(self) -> None:
        """Take up the last checkpoint, if there is one."""
        state = load_state(self.run, self.part.name, self.belongs)
        if state is not None:
            self.history, self.best = state["history"], state["best"]
            self.step, self.total = state["step"], state["total"]
            if not self.accelerator.is_main_process and self.total is not None:
                # The first process goes on with the loss of all.
                self.total = torch.zeros_like(self.total)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.ema is not None:
                self.ema.module.load_state_dict(state["ema"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.say(f"goes on after epoch {len(self.history)}" + (f" and {self.step} updates" if self.step else ""))
        lead = self.accelerator.is_main_process
        if lead:
            self.run.write_metrics(self.part.name, self.history)
        self.tracker = Tracker(self.config, self.run.folder, self.part.name, silent=not lead)

    def say(self, words: str) -> None:
        if self.accelerator.is_main_process:
            print(f"{self.part.name} {words}", file=sys.stderr, flush=True)

    # An epoch

    @property
    def validation_scores(self) -> list[float]:
        return [row["macro_f1"] for row in self.history if "macro_f1" in row]

    def ended(self) -> bool:
        optim = self.config.optim
        return len(self.history) == optim.epochs or stops_early(self.validation_scores, optim.early_stop)

    def epoch(self) -> None:
        """Train and validate one epoch, put it on record and save."""
        start, number, rows = time.perf_counter(), len(self.history) + 1, len(self.part.train_rows)
        self._thaw(number)
        self.loader.batch_sampler.set_epoch(number, self.step)
        task, lead = f"{self.part.name} epoch {number}/{self.config.optim.epochs}", self.accelerator.is_main_process
        with progress(task, rows, "images", lead) as advance:
            shown = ""

            def before(step: int) -> None:
                self._before(number, step)

            def after(step: int, photos: int, loss: torch.Tensor, total: torch.Tensor) -> None:
                nonlocal shown
                looks = step % UPDATES_BETWEEN_LOOKS == 0
                if looks:
                    shown = f"loss {float(loss):.3f}"
                advance(photos, shown)
                self._after(step, total, looks)

            trained = rows - self.step * self.config.optim.batch_size
            loss = train_one_epoch(self.trainee, self.loader, before, after, self.step, self.total)
        rate = max(trained, 0) / (time.perf_counter() - start)
        self._check(loss, number)
        row = {"epoch": number, **self._rates(number), "train_loss": loss, **self._validate()}
        self.history.append(row | {"seconds": time.perf_counter() - start, "images_per_second": rate})
        self.step, self.total = 0, None
        if self.accelerator.is_main_process:
            # The metrics go first: an epoch whose checkpoint exists is never missing in them.
            self.run.write_metrics(self.part.name, self.history)
        self.save()
        self.tracker.log(self.history[-1])
        self.say(_line(self.history[-1], self.config.optim.epochs))
        if self.stop.asked(self.accelerator):
            self._leave()

    def _rates(self, number: int) -> dict[str, float]:
        """The peak rates of backbone and head as they stand at the epoch's first update."""
        factor, optim = self._factor(number, 0), self.config.optim
        return {"lr": factor * optim.lr, "head_lr": factor * (optim.head_lr or optim.lr)}

    def _factor(self, number: int, step: int) -> float:
        per_epoch = len(self.loader.batch_sampler)
        return lr_factor(self.config.optim, (number - 1) * per_epoch + step, per_epoch, self.validation_scores)

    def _before(self, number: int, step: int) -> None:
        set_lr(self.optimizer, self._factor(number, step))
        # Dropout's noise is the update's own, so a resumed run meets the same.
        key = (self.part.seed, number, step, self.accelerator.process_index)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def _after(self, step: int, total: torch.Tensor, looks: bool) -> None:
        self.step, self.total = step + 1, total
        every = self.config.run.checkpoint_updates
        if every and self.step % every == 0:
            self._save_share()
        if (looks or self.accelerator.num_processes == 1) and self.stop.asked(self.accelerator):
            self._save_share()
            self._leave()

    def _save_share(self) -> None:
        """Save in the middle of an epoch, the loss of all processes put together for the first to go on with."""
        own = self.total
        whole = self.accelerator.reduce(own, "sum")
        self.total = whole
        self.save()
        self.total = own

    def _leave(self) -> None:
        self.accelerator.wait_for_everyone()
        self.stop.end()

    def _thaw(self, number: int) -> None:
        """Freeze the backbone or let it go, as the epoch wants; what is stepped is wrapped anew when that changes."""
        epochs = self.config.model.frozen_epochs
        frozen = epochs == "all" or number <= epochs
        if frozen == self.frozen:
            return
        self.frozen = frozen
        self.classifier.freeze_backbone(frozen)
        stepped = self.model
        if self.accelerator.num_processes > 1:
            stepped = DistributedDataParallel(stepped)
        self.trainee.stepped = torch.compile(stepped) if self.config.run.compile else stepped

    def _check(self, loss: float, number: int) -> None:
        if not np.isfinite(loss):
            raise UserError(
                f"{self.run.folder}: the loss is {loss} in epoch {number} of {self.part.name}; lower optim.lr "
                f"({self.config.optim.lr}), lengthen optim.warmup_epochs, set optim.clip_norm, or use --run.precision "
                f"fp32; the checkpoint of epoch {number - 1} stands"
            )

    def _validate(self) -> dict:
        if not len(self.part.valid_rows):
            return {}
        _, probs = self._predict(self.ema.module if self.ema is not None else self.model, self.valid_loader)
        truth = self.labels[self.part.valid_rows]
        found = scores(truth, probs.argmax(1))
        if self.config.run.keep == "best" and found["macro_f1"] > self.best["score"]:
            self.best = {"score": found["macro_f1"], "weights": {k: v.cpu().clone() for k, v in self.weights().items()}}
        log_loss = -np.log(np.maximum(probs[np.arange(len(truth)), truth], 1e-12)).mean()
        return {"val_loss": float(log_loss), **found}

    def _predict(self, model: torch.nn.Module, loader) -> tuple[np.ndarray, np.ndarray]:
        """(rows, probabilities) of all validation photos, in order, on every process."""
        mine = [predict_probs(model, loader, self.predict_on)] if len(loader.batch_sampler) else []
        rows, probs = zip(*(gather_object(mine) if self.accelerator.num_processes > 1 else mine), strict=True)
        return np.concatenate(rows), np.concatenate(probs)

    # The end

    def weights(self) -> dict[str, torch.Tensor]:
        """The classifier's tensors, the moving average's where it is on."""
        tensors = self.classifier.state_dict()
        if self.ema is not None:
            prefix = "head." if self.cached else ""
            tensors |= {prefix + name: tensor for name, tensor in self.ema.module.state_dict().items()}
        return tensors

    def finish(self) -> None:
        best = self.config.run.keep == "best" and len(self.part.valid_rows)
        if self.accelerator.is_main_process:
            save_weights(self.run, self.part.name, self.best["weights"] if best else self.weights())
        self.accelerator.wait_for_everyone()
        # Predicted from the file, so that oof.npz is what these weights say to whoever loads them.
        load_part(self.classifier, self.run, self.part.name)
        oof = self._oof() if len(self.part.valid_rows) else None
        self.tracker.finish(scores(oof.label, oof.answers) if oof else {})
        if self.accelerator.is_main_process:
            self.run.finish(self.part.name, oof)
        self.accelerator.wait_for_everyone()

    def _oof(self) -> Predictions:
        data = self.config.data
        dataset = PhotoDataset(self.store, self.labels, eval_transform(data))
        batches = self.valid_loader.batch_sampler
        workers = pick_workers(data.num_workers, self.accelerator.device)
        rows, probs = self._predict(self.classifier, make_loader(dataset, batches, workers, pin=False))
        table = self.images.iloc[rows]
        fold = np.full(len(rows), int(self.part.name.removeprefix("fold")))
        return Predictions(table.image_id.to_numpy(), probs, self.labels[rows], fold, table.person_id.to_numpy())


def _line(row: dict, epochs: int) -> str:
    words = f"epoch {row['epoch']}/{epochs}  loss {row['train_loss']:.3f}"
    if "macro_f1" in row:
        words += f" / {row['val_loss']:.3f}  macro F1 {row['macro_f1']:.4f}  accuracy {row['accuracy']:.4f}"
    return f"{words}  {row['images_per_second']:,.0f} images/s"
