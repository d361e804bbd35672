"""Training one part of a run, a fold or everybody, from its last checkpoint to its weights."""

import contextlib
import sys
import time

import numpy as np
import torch
from accelerate import Accelerator

from maskfold.analysis.calibration import log_loss
from maskfold.analysis.metrics import scores
from maskfold.config import Config, config_hash
from maskfold.data.prepared import Prepared
from maskfold.data.store import Store
from maskfold.errors import UserError
from maskfold.models.classifier import build_classifier
from maskfold.predictions import Predictions
from maskfold.progress import progress
from maskfold.training.checkpoints import Weights, load_part, load_state, pack, save_state, unpack, write_weights
from maskfold.training.engine import train_one_epoch
from maskfold.training.feed import Feed, Part
from maskfold.training.keeping import Keeper
from maskfold.training.pseudo import photos_of
from maskfold.training.runs import RunFolder
from maskfold.training.schedule import lr_factor, set_lr, stops_early
from maskfold.training.stopping import Stop
from maskfold.training.summary import epoch_line
from maskfold.training.time_left import TimeLeft
from maskfold.training.tracking import Tracker
from maskfold.training.trainee import freeze_for, make_trainee, weights_of

# A loss is shown, and a stop agreed on among processes, every so many updates: both make the host wait for the device.
UPDATES_BETWEEN_LOOKS = 10


def fit_part(
    run: RunFolder,
    config: Config,
    prepared: Prepared,
    store: Store,
    part: Part,
    accelerator: Accelerator,
    stop: Stop,
    left: TimeLeft,
) -> None:
    """Train a part; write its weights, metrics.jsonl and, for a fold, oof.npz. Interrupted, it is resumed there.

    Whatever ends it, its loaders' processes end with it, and updates that were completed are saved.
    """
    training = _Training(run, config, prepared, store, part, accelerator, stop, left)
    try:
        training.go_on()
        while not training.ended():
            training.epoch()
        training.finish()
    except Exception:
        if training.rescued() and stop.signum:
            # A loader that fails after a signal was most likely ended by it too.
            stop.raise_reason()
        raise
    finally:
        training.close()


class _Training:
    """A part under way. What decides its numbers is in the checkpoint, or follows from config and update."""

    def __init__(self, run, config, prepared, store, part, accelerator, stop, left):
        self.run, self.config, self.part, self.store, self.stop = run, config, part, store, stop
        self.left, self.tracker = left, None
        self.accelerator, self.lead, self.images = accelerator, accelerator.is_main_process, prepared.images
        self.labels = self.images.label.to_numpy()
        part, photos, choice = photos_of(run, config, prepared, store, part, accelerator)
        self.belongs = f"{config_hash(config)} {prepared.identity} {part.name} {choice}"
        torch.manual_seed(config.seed)
        self.classifier = build_classifier(config).to(accelerator.device)
        self.feed = Feed(config, part, photos, self.classifier, accelerator)
        self.trainee = make_trainee(config, self.classifier, photos, part, accelerator)
        self.keeper = Keeper(run, part.name, config.run, self.lead)
        self.rows = len(part.train_rows)
        self.history: list[dict] = []
        self.step, self.total = 0, None
        # The losses so far while the next batch is waited for, when weights and optimiser are those of one update.
        self.unsaved: torch.Tensor | None = None

    def go_on(self) -> None:
        """Take up the last checkpoint, if there is one."""
        state = load_state(self.run, self.part.name, self.belongs)
        if state is not None:
            self.history, self.step, self.total = (state[key] for key in ("history", "step", "total"))
            unpack(self.trainee, state["trainee"])
            if self.total is not None and self.total.ndim == 0:
                # Of before norms were summed up too.
                self.total = torch.stack([self.total, *torch.zeros(2)])
            if self.total is not None and not self.lead:
                # The first process goes on with the loss of all.
                self.total = torch.zeros_like(self.total)
            self.say(f"goes on after epoch {len(self.history)}" + (f" and {self.step} updates" if self.step else ""))
        if self.lead:
            self.run.write_metrics(self.part.name, self.history)
        self.tracker = Tracker(self.config, self.run.folder, self.part.name, self.history, silent=not self.lead)

    def save(self) -> None:
        if self.lead:
            progressed = {"history": self.history, "step": self.step, "total": self.total}
            state = {"belongs": self.belongs, **progressed, "trainee": pack(self.trainee)}
            save_state(self.run, self.part.name, state)

    def rescued(self) -> bool:
        """After an exception: save the updates before a fault of the loader, and return whether it was one.

        A fault within an update leaves the last checkpoint alone.
        """
        # Of several processes the others can't be asked for their losses any more.
        if self.unsaved is None or self.accelerator.num_processes > 1:
            return False
        self.total = self.unsaved
        with contextlib.suppress(OSError):
            self.save()
        return True

    def close(self) -> None:
        self.feed.close()
        if self.tracker is not None:
            self.tracker.stop()

    def say(self, words: str) -> None:
        if self.lead:
            print(f"{self.part.name} {words}", file=sys.stderr, flush=True)

    @property
    def past_scores(self) -> list[float]:
        return [row["macro_f1"] for row in self.history if "macro_f1" in row]

    def ended(self) -> bool:
        optim = self.config.optim
        return len(self.history) == optim.epochs or stops_early(self.past_scores, optim.early_stop)

    def epoch(self) -> None:
        """Train and validate one epoch, put it on record and save."""
        start, number, rows = time.perf_counter(), len(self.history) + 1, self.rows
        left = max(0, rows - self.step * self.config.optim.batch_size)
        freeze_for(number, config=self.config, classifier=self.classifier, trainee=self.trainee)
        self.feed.train.batch_sampler.set_epoch(number, self.step)
        shown = ""
        task = f"{self.part.name} epoch {number}/{self.config.optim.epochs}"
        with progress(task, left, "images", self.lead) as advance:

            def after(step: int, photos: int, loss: torch.Tensor, total: torch.Tensor) -> None:
                nonlocal shown
                looks = step % UPDATES_BETWEEN_LOOKS == 0
                shown = f"loss {float(loss):.3f}" if looks else shown
                advance(photos, shown)
                self._after(step, total, looks)

            loss, norm = train_one_epoch(self.trainee, self.feed.train, self._before, after, self.step, self.total)
        self.unsaved = None
        rate = left / (time.perf_counter() - start)
        if not (np.isfinite(loss) and all(bool(p.isfinite().all()) for p in self.trainee.model.parameters())):
            raise self._diverged(number)
        factor, optim = self._factor(0), self.config.optim
        rates = {"lr": factor * optim.lr, "head_lr": factor * (optim.head_lr or optim.lr)}
        row = {"epoch": number, **rates, "train_loss": loss, "grad_norm": norm, **self._validate(number)}
        self.history.append(row | {"seconds": time.perf_counter() - start, "images_per_second": rate})
        self.step, self.total = 0, None
        if self.lead:
            # The metrics go first: an epoch whose checkpoint exists is never missing in them.
            self.run.write_metrics(self.part.name, self.history)
        self.keeper.add(self.history, weights_of(self.classifier, self.trainee))
        self.save()
        self.keeper.prune(self.history)
        self.tracker.log(self.history[-1])
        self.say(epoch_line(self.history[-1], optim.epochs))
        if self.stop.asked(self.accelerator):
            self._end()

    def _end(self) -> None:
        self.stop.end(self.accelerator)

    def _factor(self, step: int) -> float:
        per_epoch = len(self.feed.train.batch_sampler)
        return lr_factor(self.config.optim, len(self.history) * per_epoch + step, per_epoch, self.past_scores)

    def _before(self, step: int) -> None:
        self.unsaved = None
        set_lr(self.trainee.optimizer, self._factor(step))
        # Dropout's noise is the update's own, so a resumed run meets the same.
        key = (self.config.seed, len(self.history), step, self.accelerator.process_index)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def _after(self, step: int, total: torch.Tensor, looks: bool) -> None:
        self.step = step + 1
        every = self.config.run.checkpoint_updates
        stops = (looks or self.accelerator.num_processes == 1) and self.stop.asked(self.accelerator)
        if stops or (every and self.step % every == 0):
            # The first process goes on with the loss of all.
            self.total = self.accelerator.reduce(total, "sum")
            self.save()
        if stops:
            self._end()
        self.unsaved = total
        per_epoch = len(self.feed.train.batch_sampler)
        valid_share = len(self.part.valid_rows) / self.rows
        self.left.after_update(self.part.name, len(self.history) * per_epoch + self.step, valid_share, self.lead)

    def _diverged(self, number: int) -> UserError:
        return UserError(
            f"{self.run.folder}: loss, weights or predictions are no numbers in epoch {number} of {self.part.name}; "
            f"lower optim.lr ({self.config.optim.lr}), lengthen optim.warmup_epochs, set optim.clip_norm, or use "
            "--run.precision fp32; the last checkpoint stands"
        )

    def _validate(self, number: int) -> dict:
        if not len(self.part.valid_rows):
            return {}
        trainee, truth = self.trainee, self.labels[self.part.valid_rows]

        def scored(model: torch.nn.Module) -> dict:
            _, probs = self.feed.predict(model, self.feed.valid)
            if not np.isfinite(probs).all():
                raise self._diverged(number)
            return {"val_loss": log_loss(probs, truth), **scores(truth, probs.argmax(1))}

        if trainee.ema is None:
            return scored(trainee.model)
        # The average's scores are the fold's; those of the weights it follows tell whether it is worth it.
        raw = scored(trainee.model)
        return scored(trainee.ema.module) | {f"raw_{key}": raw[key] for key in ("val_loss", "macro_f1")}

    def _score_of(self, weights: Weights) -> float:
        """Macro F1 of other weights on the validation photos."""
        self.classifier.load_state_dict(weights)
        rows, probs = self.feed.predict(self.classifier, self.feed.photos)
        return scores(self.labels[rows], probs.argmax(1))["macro_f1"]

    def finish(self) -> None:
        name, validates = self.part.name, len(self.part.valid_rows) > 0
        # The first process has written what the others may now read.
        self.accelerator.wait_for_everyone()
        weights = self.keeper.final(self.history, weights_of(self.classifier, self.trainee), self._score_of)
        if self.lead:
            write_weights(self.run.weights_path(name), weights, self.classifier.architecture)
        self.accelerator.wait_for_everyone()
        # Predicted from the file, so that oof.npz is what these weights say to whoever loads them.
        load_part(self.classifier, self.run, name)
        oof, rows = None, self.part.valid_rows
        if validates:
            rows, probs = self.feed.predict(self.classifier, self.feed.photos)
            table, fold = self.images.iloc[rows], np.full(len(rows), int(name.removeprefix("fold")))
            oof = Predictions(table.image_id.to_numpy(), probs, self.labels[rows], fold, table.person_id.to_numpy())
        if self.lead:
            self.run.finish(name, oof)
        self.tracker.finish(self.history, oof, lambda at: self.store[int(rows[at])], self.config.run.wandb_oof)
        self.accelerator.wait_for_everyone()
