"""Which weights a part ends with: the last epoch's, the best's, the mean of the last ones', or a greedy soup."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from maskfold.config.experiment import Run
from maskfold.errors import UserError, first_line
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
    """wanted: history, run.keep_epochs -> epochs whose weights the mean is of, none for the last weights as they are.

    is_greedy: of these epochs only those join that make the mean no worse.
    """

    wanted: Callable[[Sequence[dict], int], list[int]]
    is_greedy: bool = False


# What run.keep names.
SELECTIONS = {
    "last": Selection(_no_epochs),
    "best": Selection(_best_epoch),
    "mean": Selection(_last_epochs),
    "soup": Selection(_last_epochs, is_greedy=True),
}


class KeptWeights:
    """The weights of a part's epochs on disk, as long as they may be needed; written by the first process alone."""

    def __init__(self, run: RunFolder, part: str, config: Run, lead: bool):
        self.folder, self.config, self.lead = run.state_path(part).parent, config, lead

    def wanted(self, history: Sequence[dict]) -> list[int]:
        """Epochs of those on record whose weights the end may still ask for."""
        return SELECTIONS[self.config.keep].wanted(history, self.config.keep_epochs)

    def add(self, history: Sequence[dict], weights: Weights) -> None:
        """Write the latest epoch's weights where they are wanted. Goes before the checkpoint that counts the epoch."""
        epoch = history[-1]["epoch"]
        if self.lead and epoch in self.wanted(history):
            write_weights(self._path(epoch), weights)

    def prune(self, history: Sequence[dict]) -> None:
        """Delete what is wanted no more. Goes after that checkpoint: one gone on with may want it until then."""
        if self.lead:
            kept = {self._path(epoch) for epoch in self.wanted(history)}
            for path in set(self.folder.glob("epoch-*.safetensors")) - kept:
                path.unlink()

    def final(self, history: Sequence[dict], last: Weights, score: Callable[[Weights], float]) -> Weights:
        """`last` are the weights of the last epoch; score: weights -> macro F1 on the part's validation photos."""
        wanted = self.wanted(history)
        if not wanted:
            return last
        if SELECTIONS[self.config.keep].is_greedy:
            scores = [row["macro_f1"] for row in history[-len(wanted) :]]
            order = [epoch for _, epoch in sorted(zip(scores, wanted, strict=True), reverse=True)]
            wanted = self._greedy(order, max(scores), score)
        return self._mean(wanted)

    def _greedy(self, epochs: Sequence[int], best: float, score: Callable[[Weights], float]) -> list[int]:
        """From the best epoch down, each that does not make the mean worse (Wortsman et al. 2022, Model soups)."""
        soup = [epochs[0]]
        for epoch in epochs[1:]:
            found = score(self._mean([*soup, epoch]))
            if found >= best:
                soup, best = [*soup, epoch], found
        return soup

    def _mean(self, epochs: Sequence[int]) -> Weights:
        """Tensor by tensor; a whole number (batch norm's count) is the last epoch's."""
        try:
            held = [load_file(self._path(epoch)) for epoch in sorted(epochs)]
        except (OSError, SafetensorError) as fault:
            raise UserError(
                f"{self.folder}: the weights of epochs {sorted(epochs)} are not all there ({first_line(fault)}); "
                f"delete {self.folder.parent} and train it again"
            ) from fault
        if len(held) == 1:
            return held[0]
        return {
            name: torch.stack([weights[name].double() for weights in held]).mean(0).to(tensor.dtype)
            if tensor.is_floating_point()
            else tensor
            for name, tensor in held[-1].items()
        }

    def _path(self, epoch: int):
        return self.folder / f"epoch-{epoch}.safetensors"
