"""Training one part of a run, a fold or everybody, from its last checkpoint to its weights."""

import contextlib
import time

import numpy as np
import torch
from accelerate import Accelerator

from maskfold.config.experiment import config_hash
from maskfold.fileio import locked
from maskfold.models.classifier import build_classifier
from maskfold.progress import progress, report
from maskfold.runs.summary import epoch_line
from maskfold.runs.wandb_logger import WandbLogger
from maskfold.training.accelerators import free_memory, make_accelerator
from maskfold.training.checkpoints import load_state, pack, save_state, unpack
from maskfold.training.engine import EpochSums, noise_seed, training_step
from maskfold.training.fold_data import FoldData
from maskfold.training.fold_job import FoldJob
from maskfold.training.fold_scores import diverged, out_of_memory, score_of, validation_scores, write_result
from maskfold.training.optim import lr_factor, set_lr, stops_early
from maskfold.training.pseudo_labels import photos_of
from maskfold.training.trainee import freeze_for, make_trainee, weights_of
from maskfold.training.weight_selection import KeptWeights

# A loss is shown, and a stop agreed on among processes, every so many updates: both make the host wait for the device.
UPDATES_BETWEEN_LOOKS = 10


def run_job(job: FoldJob, is_first: bool = True) -> None:
    """Train a part; write its weights, metrics.jsonl and, for a fold, oof.npz. Interrupted, it is resumed there.

    Whatever ends it, its loaders' processes end with it, completed updates are saved and its memory is freed.
    is_first: of this process. A later one does not begin once the run is to stop; the first one makes an update, or a
    time limit shorter than the start would never let it get on.
    """
    accelerator, trainer, folder = make_accelerator(job.config), None, job.run.part_dir(job.part.name)
    if not is_first and job.stop.asked(accelerator):
        job.stop.end(accelerator)
    # The run is this process' or its parent's; a part may still be held by a child whose parent was killed: it saves.
    try:
        with locked(folder) if accelerator.is_main_process else contextlib.nullcontext():
            trainer = FoldTrainer(job, accelerator)
            trainer.resume()
            while not trainer.is_done():
                trainer.train_epoch()
            trainer.finish()
    except torch.OutOfMemoryError as fault:
        raise out_of_memory(job) from fault
    except Exception:
        if trainer is not None and trainer.save_between_updates() and job.stop.signum:
            # A loader that fails after a signal was most likely ended by it too.
            job.stop.raise_reason()
        raise
    finally:
        if trainer is not None:
            trainer.close()
        # What refers to tensors must go first.
        trainer = None
        free_memory(accelerator, job.config.run.compile)


class FoldTrainer:
    """A part under way. What decides its numbers is in the checkpoint, or follows from config and update."""

    def __init__(self, job: FoldJob, accelerator: Accelerator):
        self.job, self.accelerator, self.lead = job, accelerator, accelerator.is_main_process
        self.run, self.config = job.run, job.config
        self.part, photos, choice = photos_of(job, accelerator)
        self.belongs = f"{config_hash(self.config)} {job.prepared.identity} {self.part.name} {choice}"
        torch.manual_seed(self.config.seed)
        self.classifier = build_classifier(self.config).to(accelerator.device)
        self.data = FoldData(self.config, self.part, photos, self.classifier, accelerator)
        self.trainee = make_trainee(self.config, self.classifier, photos, self.part, accelerator)
        self.kept = KeptWeights(self.run, self.part.name, self.config.run, self.lead)
        self.history: list[dict] = []
        # Updates of the epoch under way, and what they add up to.
        self.step, self.sums = 0, EpochSums.zeros(accelerator.device)
        # While the next batch is waited for, weights and optimiser are those of one update.
        self.is_between_updates = False
        # A silent one, until the epochs so far are known.
        self.tracker = WandbLogger(self.config, self.run.folder, self.part.name, silent=True)

    def resume(self) -> None:
        """Take up the last checkpoint, if there is one."""
        state = load_state(self.run, self.part.name, self.belongs)
        if state is not None:
            self.history, self.step = state["history"], state["step"]
            unpack(self.trainee, state["trainee"])
            if state["total"] is not None and self.lead:
                # The first process resumes with the sums of all.
                self.sums = EpochSums(state["total"].to(self.accelerator.device))
            report(f"{self.part.name} resumes after epoch {len(self.history)} and {self.step} updates", self.lead)
        if self.lead:
            self.run.write_metrics(self.part.name, self.history)
        self.tracker = WandbLogger(self.config, self.run.folder, self.part.name, self.history, silent=not self.lead)

    def save(self, sums: torch.Tensor | None) -> None:
        """Write a checkpoint. sums: EpochSums.values over all processes in mid-epoch, None between epochs."""
        if self.lead:
            progressed = {"history": self.history, "step": self.step, "total": sums}
            state = {"belongs": self.belongs, **progressed, "trainee": pack(self.trainee)}
            save_state(self.run, self.part.name, state)

    def save_between_updates(self) -> bool:
        """After an exception: save the updates before a fault of the loader, and return whether it was one.

        A fault within an update leaves the last checkpoint alone.
        """
        # Of several processes the others can't be asked for their losses any more.
        if not self.is_between_updates or self.accelerator.num_processes > 1:
            return False
        with contextlib.suppress(OSError):
            self.save(self.sums.values)
        return True

    def close(self) -> None:
        """End the loaders' processes, and W&B's run if the part is not finished."""
        self.data.close()
        self.tracker.stop()

    @property
    def past_scores(self) -> list[float]:
        return [row["macro_f1"] for row in self.history if "macro_f1" in row]

    def is_done(self) -> bool:
        optim = self.config.optim
        return len(self.history) == optim.epochs or stops_early(self.past_scores, optim.early_stop)

    def train_epoch(self) -> None:
        """Train and validate one epoch, put it on record and save."""
        start, epoch, optim = time.perf_counter(), len(self.history) + 1, self.config.optim
        batches, photos = self.data.train.batch_sampler, len(self.part.train_rows)
        photos_left = max(0, photos - self.step * optim.batch_size)
        freeze_for(epoch, config=self.config, classifier=self.classifier, trainee=self.trainee)
        batches.set_epoch(epoch, self.step)
        self.trainee.stepped.train()
        task, note = f"{self.part.name} epoch {epoch}/{optim.epochs}", ""
        with progress(task, photos_left, "images", self.lead) as advance:
            for step, batch in enumerate(self.data.train, self.step):
                self.is_between_updates = False
                set_lr(self.trainee.optimizer, self.lr_factor(step))
                seed = noise_seed(self.config.seed, len(self.history), step, self.accelerator.process_index)
                loss = training_step(self.trainee, batch, batches, step, self.sums, seed)
                self.step = step + 1
                looks = step % UPDATES_BETWEEN_LOOKS == 0
                note = f"loss {float(loss):.3f}" if looks else note
                advance(batches.size(step), note)
                self.after_update(looks)
        self.is_between_updates = False
        rate = photos_left / (time.perf_counter() - start)
        loss, norm = self.sums.means(self.accelerator, photos)
        is_finite = np.isfinite(loss) and all(bool(p.isfinite().all()) for p in self.trainee.model.parameters())
        scored = validation_scores(self.data, self.trainee) if is_finite else {}
        if not (is_finite and np.isfinite(scored.get("val_loss", 0.0))):
            raise diverged(self.job, epoch)
        factor = self.lr_factor(0)
        rates = {"lr": factor * optim.lr, "head_lr": factor * (optim.head_lr or optim.lr)}
        row = {"epoch": epoch, **rates, "train_loss": loss, "grad_norm": norm, **scored}
        self.history.append(row | {"seconds": time.perf_counter() - start, "images_per_second": rate})
        self.step, self.sums = 0, EpochSums.zeros(self.accelerator.device)
        if self.lead:
            # The metrics go first: an epoch whose checkpoint exists is never missing in them.
            self.run.write_metrics(self.part.name, self.history)
        self.kept.add(self.history, weights_of(self.classifier, self.trainee))
        self.save(None)
        self.kept.prune(self.history)
        self.tracker.log(self.history[-1])
        report(f"{self.part.name} {epoch_line(self.history[-1], optim.epochs)}", self.lead)
        if self.job.stop.asked(self.accelerator):
            self.job.stop.end(self.accelerator)

    def lr_factor(self, step: int) -> float:
        """Share of the peak learning rate at an update of the epoch under way."""
        per_epoch = len(self.data.train.batch_sampler)
        return lr_factor(self.config.optim, len(self.history) * per_epoch + step, per_epoch, self.past_scores)

    def after_update(self, looks: bool) -> None:
        """Save a checkpoint where one is due, and end where the run is to stop."""
        every = self.config.run.checkpoint_updates
        stops = (looks or self.accelerator.num_processes == 1) and self.job.stop.asked(self.accelerator)
        if stops or (every and self.step % every == 0):
            self.sums = EpochSums(self.accelerator.reduce(self.sums.values, "sum") * self.lead)
            self.save(self.sums.values)
        if stops:
            self.job.stop.end(self.accelerator)
        self.is_between_updates = True
        done = len(self.history) * len(self.data.train.batch_sampler) + self.step
        valid_share = len(self.part.valid_rows) / len(self.part.train_rows)
        self.job.left.after_update(self.part.name, done, valid_share, self.lead)

    def finish(self) -> None:
        """Write the weights that the part ends with, and what they say of its validation photos."""
        self.accelerator.wait_for_everyone()
        last = weights_of(self.classifier, self.trainee)
        weights = self.kept.final(self.history, last, lambda other: score_of(self.data, self.classifier, other))
        rows, oof = write_result(self.job, self.data, self.classifier, weights)
        self.tracker.finish(self.history, oof, lambda row: self.job.store[int(rows[row])], self.config.run.wandb_oof)
        self.accelerator.wait_for_everyone()
