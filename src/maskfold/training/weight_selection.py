"""The final weights of a fold or refit: last epoch, best epoch, mean of the last epochs, or greedy soup."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError

from maskfold.config.experiment import Run
from maskfold.errors import UserError, first_line
from maskfold.fileio import check_readable
from maskfold.models.weight_files import read_safetensors
from maskfold.runs.part_weights import Weights, write_weights
from maskfold.runs.run_folder import RunFolder


def _no_epochs(history: Sequence[dict], count: int) -> list[int]:
    return []


def _best_epoch(history: Sequence[dict], count: int) -> list[int]:
    scored = [row for row in history if "macro_f1" in row]
    return [max(scored, key=lambda row: row["macro_f1"])["epoch"]] if scored else []


def _last_epochs(history: Sequence[dict], count: int) -> list[int]:
    return [row["epoch"] for row in history[-count:]]


class Selection(NamedTuple):
    """The epochs whose weights are averaged.

    epochs: function (history, run.keep_epochs) -> numbers of the epochs; an empty list means the last weights, without
    an average. is_greedy: whether epochs that make the mean worse are left out.
    """

    epochs: Callable[[Sequence[dict], int], list[int]]
    is_greedy: bool = False


# Values of run.keep.
SELECTIONS = {
    "last": Selection(_no_epochs),
    "best": Selection(_best_epoch),
    "mean": Selection(_last_epochs),
    "soup": Selection(_last_epochs, is_greedy=True),
}


class KeptWeights:
    """The weights of a part's epochs, kept on disk as long as run.keep may need them. Only the main process writes."""

    def __init__(self, run: RunFolder, part: str, config: Run, is_main: bool):
        self.folder, self.config, self.is_main = run.state_path(part).parent, config, is_main

    def needed_epochs(self, history: Sequence[dict]) -> list[int]:
        """Epochs of the history whose weights may still be needed at the end."""
        return SELECTIONS[self.config.keep].epochs(history, self.config.keep_epochs)

    def add(self, history: Sequence[dict], weights: Weights) -> None:
        """Write the latest epoch's weights if they are needed. Call this before saving the epoch's checkpoint."""
        epoch = history[-1]["epoch"]
        if self.is_main and epoch in self.needed_epochs(history):
            write_weights(self._path(epoch), weights)

    def prune(self, history: Sequence[dict]) -> None:
        """Delete weights that are no longer needed.

        Call this after saving the epoch's checkpoint, because a resume from the previous one may need these weights.
        """
        if self.is_main:
            kept = {self._path(epoch) for epoch in self.needed_epochs(history)}
            for path in set(self.folder.glob("epoch-*.safetensors")) - kept:
                path.unlink()

    def final(self, history: Sequence[dict], last: Weights, score: Callable[[Weights], float]) -> Weights:
        """Return the weights that run.keep selects.

        last: weights of the last epoch. score: weights -> macro F1 on the part's validation photos.
        """
        epochs = self.needed_epochs(history)
        if not epochs:
            return last
        if SELECTIONS[self.config.keep].is_greedy:
            scores = [row["macro_f1"] for row in history[-len(epochs) :]]
            best_first = [epoch for _, epoch in sorted(zip(scores, epochs, strict=True), reverse=True)]
            epochs = self._greedy_soup(best_first, max(scores), score)
        return self._mean(epochs)

    def _greedy_soup(self, epochs: Sequence[int], best: float, score: Callable[[Weights], float]) -> list[int]:
        """Return the epochs that, added one by one, do not make the mean worse (Wortsman et al. 2022, Model soups).

        epochs: sorted by macro F1, the best first. best: the macro F1 of the first.
        """
        soup = [epochs[0]]
        for epoch in epochs[1:]:
            macro_f1 = score(self._mean([*soup, epoch]))
            if macro_f1 >= best:
                soup, best = [*soup, epoch], macro_f1
        return soup

    def _mean(self, epochs: Sequence[int]) -> Weights:
        """Mean of each float tensor; integer tensors (batch norm's counter) are those of the latest of `epochs`."""
        try:
            all_weights = [read_safetensors(self._path(epoch))[0] for epoch in sorted(epochs)]
            if len(all_weights) == 1:
                return all_weights[0]
            return {
                name: torch.stack([weights[name].double() for weights in all_weights]).mean(0).to(tensor.dtype)
                if tensor.is_floating_point()
                else tensor
                for name, tensor in all_weights[-1].items()
            }
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            for epoch in epochs:
                check_readable(self._path(epoch))
            raise UserError(
                f"{self.folder}: weights of epochs {sorted(epochs)} are missing or damaged ({first_line(error)}); "
                f"delete {self.folder.parent} to train {self.folder.parent.name} again"
            ) from error

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.safetensors"
