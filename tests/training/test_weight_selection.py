import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import first_quick, refused, tiny_args
from safetensors.torch import load_file

from maskfold.config.experiment import Run
from maskfold.errors import UserError
from maskfold.probabilities import load_predictions
from maskfold.runs.part_weights import write_weights
from maskfold.runs.run_folder import RunFolder
from maskfold.runs.summary import SELECTED
from maskfold.training import fold_trainer
from maskfold.training.fold_scores import validation_scores
from maskfold.training.weight_selection import KeptWeights


def keeper(tmp_path, **keys):
    return KeptWeights(RunFolder(tmp_path / "run"), "fold0", Run(**keys), is_main=True)


def epochs(keeper, scores, validated=True):
    """Save weights w = epoch and count = epoch after each epoch, as FoldTrainer does; return the history."""
    history = []
    for epoch, score in enumerate(scores, 1):
        history.append({"epoch": epoch} | ({"macro_f1": score} if validated else {}))
        keeper.add(history, {"w": torch.full((3,), float(epoch)), "count": torch.tensor(epoch)})
        keeper.prune(history)
    return history


LAST = {"w": torch.full((3,), 99.0), "count": torch.tensor(99)}


def final(keeper, scores, score=None, **more):
    def never(weights):
        raise AssertionError("no score is needed")

    weights = keeper.final(epochs(keeper, scores, **more), LAST, score or never)
    return weights["w"].tolist(), int(weights["count"])


def test_the_mean_of_the_last_epochs_needs_no_score(tmp_path):
    assert final(keeper(tmp_path, keep="mean", keep_epochs=3), [0.9, 0.1, 0.5, 0.2]) == ([3.0] * 3, 4)
    left = sorted(path.name for path in (tmp_path / "run" / "fold0" / "state").iterdir())
    assert left == ["epoch-2.safetensors", "epoch-3.safetensors", "epoch-4.safetensors"]


def test_the_mean_of_a_part_without_validation(tmp_path):
    assert final(keeper(tmp_path, keep="mean", keep_epochs=2), [0, 0, 0], validated=False) == ([2.5] * 3, 3)


def test_best_is_the_first_of_equal_scores_and_last_the_last_epoch(tmp_path):
    assert final(keeper(tmp_path, keep="best"), [0.1, 0.4, 0.4, 0.2]) == ([2.0] * 3, 2)
    assert final(keeper(tmp_path / "b"), [0.1, 0.4]) == ([99.0] * 3, 99)
    assert final(keeper(tmp_path / "c", keep="best"), [0, 0], validated=False) == ([99.0] * 3, 99)


def test_a_greedy_soup_adds_epochs_that_do_not_lower_the_score(tmp_path):
    """Epochs by score: 4, 2, 3. Adding 2 to 4 improves the score, adding 3 does not: the mean of 4 and 2."""
    means = []

    def score(weights):
        value = float(weights["w"][0])
        means.append(value)
        return {3.0: 0.7}.get(value, 0.1)

    assert final(keeper(tmp_path, keep="soup"), [0.9, 0.5, 0.4, 0.6], score)[0] == [3.0] * 3
    assert means == [3.0, 3.0]


def test_a_soup_that_every_epoch_lowers_is_the_best_epoch(tmp_path):
    assert final(keeper(tmp_path, keep="soup"), [0.1, 0.5, 0.4], lambda weights: 0.2)[0] == [2.0] * 3


def equal_weights(one, other) -> bool:
    """Whether two state dicts are equal, except for batch norm's counters."""
    return all(torch.allclose(one[name].double(), other[name].double()) for name in one if "num_batches" not in name)


# (run.keep, epoch) for the single epochs whose weights a run may end with.
EXPECTED = {("soup", 4), ("best", 2)}


@pytest.mark.parametrize("keep", first_quick("soup", "mean", "best"))
def test_a_run_ends_with_the_weights_it_keeps(script, synthetic, keep, monkeypatch):
    """Compare with the weights of each epoch as they were written; the predictions are those of the kept weights."""
    written, real = {}, KeptWeights.add

    def spy(self, history, weights):
        written[history[-1]["epoch"]] = {name: tensor.clone() for name, tensor in weights.items()}
        real(self, history, weights)

    def scores_of_epoch(data, state):
        """The real scores with another macro F1: epoch 2 is the best of all, epoch 4 the best of the last two."""
        return validation_scores(data, state) | {"macro_f1": (0.1, 0.4, 0.2, 0.3)[len(written)]}

    monkeypatch.setattr(KeptWeights, "add", spy)
    monkeypatch.setattr(fold_trainer, "validation_scores", scores_of_epoch)
    args = tiny_args(
        synthetic, "--folds", 0, "--optim.epochs", 4, "--run.keep", keep, "--run.keep_epochs", 2, "--name", keep
    )
    done = script("train", *args, "--optim.lr", 0.01, "--model.backbone", "test_resnet")
    assert done.code == 0, done.err
    kept = load_file(f"runs/{keep}/fold0/model.safetensors")
    assert not Path(f"runs/{keep}/fold0/state").exists()
    means = {name: (written[3][name].double() + written[4][name].double()) / 2 for name in kept}
    candidates = {"mean": [means], "soup": [means, written[4]], "best": [written[2]]}[keep]
    assert any(equal_weights(kept, weights) for weights in candidates)
    assert not any(equal_weights(kept, weights) for epoch, weights in written.items() if (keep, epoch) not in EXPECTED)
    assert (SELECTED in done.out) == (keep != "mean")
    oof = load_predictions(Path(f"runs/{keep}/oof.npz"), True)
    assert script("submit", keep, "--out", "a.csv").code == 0
    np.testing.assert_allclose(load_predictions(Path(f"runs/{keep}/oof-none.npz"), True).probs, oof.probs, atol=1e-6)


def test_a_refit_cannot_keep_a_soup(script, synthetic):
    refused(script("train", *tiny_args(synthetic, "--refit", "--run.keep", "soup")), "--refit", "run.keep mean")
    done = script("train", *tiny_args(synthetic, "--refit", "--run.keep", "mean", "--name", "m"))
    assert done.code == 0, done.err
    assert "mean of the last 3 epochs" in json.loads(Path("runs/m/summary.json").read_text())["selection"]


def test_weights_of_an_epoch_that_do_not_fit_the_others_are_an_error(tmp_path):
    for weights in ({"w": torch.zeros(4), "count": torch.tensor(1)}, {"count": torch.tensor(1)}):
        kept = keeper(tmp_path, keep="mean", keep_epochs=2)
        history = epochs(kept, [0.1, 0.2])
        write_weights(kept.folder / "epoch-1.safetensors", weights)
        with pytest.raises(UserError, match=r"epochs \[1, 2\] are missing or damaged.*train fold0 again"):
            kept.final(history, LAST, lambda weights: 0.0)
