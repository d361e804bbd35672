"""Train one part of a run (a fold or the refit), from its last checkpoint to its final weights."""

import contextlib
import time

import numpy as np
import torch
from accelerate import Accelerator

from maskfold.locks import locked
from maskfold.models.classifier import build_classifier
from maskfold.progress import progress, report
from maskfold.runs.summary import epoch_line
from maskfold.runs.wandb_logger import WandbLogger
from maskfold.training.accelerators import free_memory, make_accelerator
from maskfold.training.checkpoints import load_checkpoint, pack_state, save_checkpoint, unpack_state
from maskfold.training.engine import EpochSums, Update, dropout_seed, training_step
from maskfold.training.fold_data import FoldData
from maskfold.training.fold_job import FoldJob
from maskfold.training.fold_scores import divergence_error, memory_error, val_macro_f1, validation_scores, write_results
from maskfold.training.optim import lr_factor, set_lr, should_stop_early
from maskfold.training.pseudo_labels import training_photos
from maskfold.training.train_state import current_weights, make_train_state, set_frozen
from maskfold.training.weight_selection import KeptWeights

# Number of updates between two reads of the loss and, with several processes, between two checks for a stop request.
# Each read and each check makes the host wait for the device.
LOG_INTERVAL = 10


def run_job(job: FoldJob) -> None:
    """Train a part from its last checkpoint, if any; write its weights, metrics.jsonl and, for a fold, oof.npz.

    The completed updates are saved after a stop request. In training with one process, they are also saved after an
    error while it waits for a batch. Finally, worker processes are ended and memory is freed.
    """
    context, trainer, accelerator = job.context, None, make_accelerator(job.context.config)
    if context.stop.has_trained and context.stop.is_requested(accelerator):
        context.stop.wait_and_raise(accelerator)
    context.stop.has_trained = True
    try:
        # The run's lock is not enough: a child process whose parent was killed may still be saving this part.
        with locked(context.run.part_dir(job.part.name)) if accelerator.is_main_process else contextlib.nullcontext():
            trainer = FoldTrainer(job, accelerator)
            trainer.resume()
            while not trainer.is_done():
                trainer.train_epoch()
            trainer.finish()
    except torch.OutOfMemoryError as error:
        raise memory_error(job.part.name, context.config) from error
    except Exception:
        if trainer is not None and trainer.save_between_updates() and context.stop.signum:
            # If a data loader fails after a signal, the signal most likely ended its worker processes.
            context.stop.raise_if_requested()
        raise
    finally:
        if trainer is not None:
            trainer.close()
        # Drop all references to tensors before freeing memory.
        trainer = None
        free_memory(accelerator, context.config.run.compile)


class FoldTrainer:
    """The training of one part. What is not in a checkpoint can be computed from the config and the update number."""

    def __init__(self, job: FoldJob, accelerator: Accelerator):
        self.job, self.accelerator, self.is_main = job, accelerator, accelerator.is_main_process
        self.run, self.config, self.stop = job.context.run, job.context.config, job.context.stop
        self.name, self.photos = job.part.name, training_photos(job, accelerator)
        data_identity = f"{job.context.prepared.identity} {self.name} {self.photos.pseudo_hash}"
        # Use the recorded hash, because the hash of a config changes when the schema gets new keys.
        self.identity = f"{self.run.provenance['config_hash']} {data_identity}"
        torch.manual_seed(self.config.seed)
        self.classifier = build_classifier(self.config).to(accelerator.device)
        self.data = FoldData(self.config, self.photos, self.classifier, accelerator)
        self.state = make_train_state(self.config, self.classifier, self.photos, accelerator)
        self.kept = KeptWeights(self.run, self.name, self.config.run, self.is_main)
        self.history: list[dict] = []  # one row of metrics per finished epoch
        # The number of updates in the current epoch, and the sums of their losses and gradient norms.
        self.step, self.sums = 0, EpochSums.zeros(accelerator.device)
        # True while training waits for the next batch: weights and optimiser are then consistent and can be saved.
        self.is_between_updates = False
        # The logger is silent until resume() has loaded the history.
        self.tracker = WandbLogger(self.config, self.run.folder, self.name, silent=True)

    def resume(self) -> None:
        """Load the last checkpoint if there is one, and start logging."""
        checkpoint = load_checkpoint(self.run, self.name, self.identity)
        if checkpoint is not None:
            self.history, self.step = checkpoint["history"], checkpoint["step"]
            unpack_state(self.state, checkpoint["train_state"], self.run.state_path(self.name))
            if checkpoint["sums"] is not None and self.is_main:
                # The saved sums are totals over all processes, so the other processes resume with zeros.
                self.sums = EpochSums(checkpoint["sums"].to(self.accelerator.device))
            report(f"{self.name} resumes after epoch {len(self.history)} and {self.step} more updates", self.is_main)
        if self.is_main:
            self.run.write_metrics(self.name, self.history)
        self.tracker = WandbLogger(self.config, self.run.folder, self.name, self.history, silent=not self.is_main)

    def save(self, sums: torch.Tensor | None) -> None:
        """Write a checkpoint. sums: EpochSums.values, reduced over all processes; None between two epochs."""
        if self.is_main:
            checkpoint = {"identity": self.identity, "history": self.history, "step": self.step, "sums": sums}
            save_checkpoint(self.run, self.name, checkpoint | {"train_state": pack_state(self.state)})

    def save_between_updates(self) -> bool:
        """Try to save a checkpoint after an error. Return False if the state is inconsistent and can't be saved."""
        # Several processes can't reduce their sums after an error. If the disk is full, the last checkpoint remains.
        if not self.is_between_updates or self.accelerator.num_processes > 1:
            return False
        with contextlib.suppress(OSError):
            self.save(self.sums.values)
        return True

    def close(self) -> None:
        """End the data loaders' worker processes, and the W&B run of an unfinished part."""
        self.data.close()
        self.tracker.stop()

    @property
    def past_scores(self) -> list[float]:
        """Validation macro F1 of the finished epochs."""
        return [row["macro_f1"] for row in self.history if "macro_f1" in row]

    def is_done(self) -> bool:
        optim = self.config.optim
        return len(self.history) == optim.epochs or should_stop_early(self.past_scores, optim.early_stop)

    def train_epoch(self) -> None:
        """Train the rest of the current epoch, validate, and save metrics, weights and checkpoint."""
        start, epoch, optim = time.perf_counter(), len(self.history) + 1, self.config.optim
        batch_sampler, num_photos = self.data.train_loader.batch_sampler, len(self.photos.train_rows)
        photos_left = max(0, num_photos - self.step * optim.batch_size)
        set_frozen(epoch, self.config, self.classifier, self.state)
        batch_sampler.set_epoch(epoch, self.step)
        self.state.wrapped_model.train()
        task, note = f"{self.name} epoch {epoch}/{optim.epochs}", ""
        with progress(task, photos_left, "images", self.is_main) as advance:
            for step, batch in enumerate(self.data.train_loader, self.step):
                self.is_between_updates = False
                set_lr(self.state.optimizer, self.current_lr_factor(step))
                seed = dropout_seed(self.config.seed, len(self.history), step, self.accelerator.process_index)
                update = Update(epoch, step, batch_sampler.size(step), seed)
                loss = training_step(self.state, batch, update, self.sums)
                self.step, is_log_step = step + 1, step % LOG_INTERVAL == 0
                note = f"loss {float(loss):.3f}" if is_log_step else note
                advance(update.batch_size, note)
                self.after_update(is_log_step)
        self.is_between_updates = False
        images_per_second = photos_left / (time.perf_counter() - start)
        loss, norm = self.sums.means(self.accelerator, num_photos)
        is_finite = np.isfinite(loss) and all(bool(p.isfinite().all()) for p in self.state.model.parameters())
        val_scores = validation_scores(self.data, self.state) if is_finite else {}
        if not (is_finite and np.isfinite(val_scores.get("val_loss", 0.0))):
            raise divergence_error(self.job, epoch)
        factor = self.current_lr_factor(0)
        rates = {"lr": factor * optim.lr, "head_lr": factor * (optim.head_lr or optim.lr)}
        row = {"epoch": epoch, **rates, "train_loss": loss, "grad_norm": norm, **val_scores}
        self.history.append(row | {"seconds": time.perf_counter() - start, "images_per_second": images_per_second})
        self.step, self.sums = 0, EpochSums.zeros(self.accelerator.device)
        if self.is_main:
            # Write metrics.jsonl before the checkpoint, so that it never lacks an epoch that the checkpoint contains.
            self.run.write_metrics(self.name, self.history)
        self.kept.add(self.history, current_weights(self.classifier, self.state))
        self.save(None)
        self.kept.prune(self.history)
        self.tracker.log(self.history[-1])
        report(f"{self.name} {epoch_line(self.history[-1], optim.epochs)}", self.is_main)
        if self.stop.is_requested(self.accelerator):
            self.stop.wait_and_raise(self.accelerator)

    def current_lr_factor(self, step: int) -> float:
        """The factor by which the peak learning rate is multiplied at update `step` of the current epoch."""
        per_epoch = len(self.data.train_loader.batch_sampler)
        return lr_factor(self.config.optim, len(self.history) * per_epoch + step, per_epoch, self.past_scores)

    def after_update(self, is_log_step: bool) -> None:
        """Save a checkpoint if one is due, and stop training if a stop is requested."""
        interval = self.config.run.checkpoint_updates
        stops = (is_log_step or self.accelerator.num_processes == 1) and self.stop.is_requested(self.accelerator)
        if stops or (interval and self.step % interval == 0):
            self.sums = EpochSums(self.accelerator.reduce(self.sums.values, "sum") * self.is_main)
            self.save(self.sums.values)
        if stops:
            self.stop.wait_and_raise(self.accelerator)
        self.is_between_updates = True
        num_updates = len(self.history) * len(self.data.train_loader.batch_sampler) + self.step
        val_ratio = len(self.photos.val_rows) / len(self.photos.train_rows)
        self.job.time_left.after_update(self.name, num_updates, val_ratio, self.is_main)

    def finish(self) -> None:
        """Write the final weights and their out-of-fold predictions."""
        self.accelerator.wait_for_everyone()
        last = current_weights(self.classifier, self.state)
        weights = self.kept.final(self.history, last, lambda soup: val_macro_f1(self.data, self.classifier, soup))
        rows, oof = write_results(self.job, self.data, self.classifier, weights)
        store = self.job.context.store
        self.tracker.finish(self.history, oof, lambda row: store[int(rows[row])], self.config.run.wandb_oof)
        self.accelerator.wait_for_everyone()
