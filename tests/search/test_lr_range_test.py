"""The learning-rate range test with scripts/find_lr.py on tiny data, and its rules on hand-made curves."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import refused, tiny_args, tiny_config

from maskfold.errors import UserError
from maskfold.search import lr_range_test as range_test_module
from maskfold.search.lr_range_test import LrRange, lr_range_test
from maskfold.search.lr_suggestion import WINDOW, LrCurve, has_diverged, suggest_lr

# The flags of a test that takes few updates.
SHORT = ("--updates", 30)


def curve_of(losses, lrs=None):
    losses = np.array(losses, float)
    return LrCurve(np.geomspace(1e-4, 1, len(losses)) if lrs is None else lrs, losses, diverged=False)


def test_the_smoothed_loss_is_the_centred_mean_of_eleven():
    curve = curve_of(np.arange(20) ** 2)
    expected = [np.mean([i**2 for i in range(max(0, n - 5), min(20, n + 6))]) for n in range(20)]
    np.testing.assert_allclose(curve.smoothed, expected)


def test_the_loss_diverges_at_four_times_its_lowest_mean_or_without_a_finite_value():
    flat = [2.0] * WINDOW
    assert not has_diverged(flat)
    # With a last loss of 68, the mean of the last 11 losses is (10 * 2 + 68) / 11 = 8, four times the lowest mean.
    assert not has_diverged([*flat, 67.9])
    assert has_diverged([*flat, 68.1])
    assert has_diverged([2.0, float("nan")])
    assert has_diverged([2.0, float("inf")])
    assert not has_diverged([1.0, 1000.0]), "too few losses for a mean"
    assert not has_diverged([])


def test_the_suggestion_is_the_steepest_descent_or_a_tenth_of_the_minimum():
    """A loss that falls linearly in log(lr) between update 20 and 40 of 81, and rises as fast afterwards."""
    updates = np.arange(81)
    losses = np.interp(updates, [0, 20, 40, 60], [3.0, 3.0, 1.0, 3.0])
    curve = curve_of(losses)
    suggestion = suggest_lr(curve)
    # 4 decades in 80 updates: update 40 has the learning rate 1e-2, update 20 has 1e-3.
    assert suggestion.lowest == pytest.approx(curve.lrs[40])
    assert curve.lrs[20] < suggestion.steepest < curve.lrs[40]
    assert suggestion.lr == pytest.approx(min(suggestion.steepest, 1e-3))
    assert suggestion.rule == "a tenth of the learning rate with the lowest smoothed loss"
    # It falls fastest at the start, long before the minimum.
    losses = np.interp(updates, [0, 10, 20, 70, 80], [3.0, 3.0, 1.5, 1.0, 3.0])
    suggestion = suggest_lr(curve_of(losses))
    assert suggestion.lr == suggestion.steepest < 0.1 * suggestion.lowest
    assert suggestion.rule == "where the smoothed loss falls fastest"


@pytest.mark.parametrize("losses", [np.linspace(1, 9, 40), [5.0], []])
def test_a_loss_that_never_falls_is_an_error(losses):
    with pytest.raises(UserError, match="--min-lr"):
        suggest_lr(curve_of(losses))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_curve_and_another_seed_another(synthetic, tmp_path):
    lr_range = LrRange(1e-6, 1e-2, 24)
    curves = [
        lr_range_test(tiny_config(synthetic, "--data.prepared", tmp_path / "p", "--seed", seed), lr_range)
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(curves[0].losses, curves[1].losses)
    assert not np.array_equal(curves[0].losses, curves[2].losses)
    np.testing.assert_allclose(curves[0].lrs, np.geomspace(1e-6, 1e-2, 24))


def test_its_updates_are_those_of_training(synthetic, tmp_path, monkeypatch, script):
    """The learning rates, relative rates of the head and batches of each update; the first batches are train.py's."""
    seen = []
    real = range_test_module.training_step

    def record(state, batch, update, sums):
        seen.append(([group["lr"] for group in state.optimizer.param_groups], batch.rows.tolist(), update))
        return real(state, batch, update, sums)

    monkeypatch.setattr(range_test_module, "training_step", record)
    config = tiny_config(synthetic, "--data.prepared", tmp_path / "p", "--optim.lr", 1e-3, "--optim.head_lr", 5e-3)
    lr_range_test(config, LrRange(1e-5, 1e-3, 22))
    ratios = [lrs[-1] / lrs[0] for lrs, _, _ in seen]
    assert ratios == pytest.approx([5.0] * 22)
    assert [lrs[0] for lrs, _, _ in seen] == pytest.approx(np.geomspace(1e-5, 1e-3, 22))
    # 42 photos in batches of 16: epochs of 3 updates.
    assert [(update.epoch, update.step, update.batch_size) for _, _, update in seen[:4]] == [
        (1, 0, 16),
        (1, 1, 16),
        (1, 2, 10),
        (2, 0, 16),
    ]
    from maskfold.training import fold_trainer

    batches = []
    real_step = fold_trainer.training_step
    monkeypatch.setattr(
        fold_trainer,
        "training_step",
        lambda state, batch, update, sums: (
            batches.append((batch.rows.tolist(), update)),
            real_step(state, batch, update, sums),
        )[1],
    )
    done = script("train", *tiny_args(synthetic, "--data.prepared", tmp_path / "p", "--folds", 0))
    assert done.code == 0, done.err
    assert batches == [(rows, update) for _, rows, update in seen[: len(batches)]]


def test_a_diverging_loss_ends_the_test_and_gives_a_figure(script, synthetic):
    """Learning rates up to 1e6 with SGD diverge long before the last update; no run folder is made."""
    args = tiny_args(synthetic, "--optim.name", "sgd", "--min-lr", 1e-3, "--max-lr", 1e6, "--updates", 80)
    done = script("find_lr", *args)
    assert done.code == 0, done.err
    assert "the loss diverged at a learning rate of" in done.out
    diverged = float(re.search(r"diverged at a learning rate of (\S+)", done.out)[1])
    suggested = float(re.search(r"suggestion: --optim\.lr (\S+) \(", done.out)[1])
    assert 1e-3 <= suggested < diverged < 1e6
    assert "figure: find-lr-demo.png" in done.out
    height, width = cv2.imread("find-lr-demo.png").shape[:2]
    assert height > 300 and width > 500
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_test_without_divergence_says_so(script, synthetic):
    done = script("find_lr", *tiny_args(synthetic, *SHORT, "--max-lr", 1e-2, "--out", "deep/er.png", "--fold", 1))
    assert done.code == 0, done.err
    assert "the loss did not diverge up to a learning rate of 0.01; --max-lr" in done.out
    assert Path("deep/er.png").exists()


@pytest.mark.slow
def test_the_suggestion_names_the_rate_of_the_head_if_it_has_its_own(script, synthetic):
    done = script("find_lr", *tiny_args(synthetic, *SHORT, "--optim.lr", 1e-3, "--optim.head_lr", 1e-2))
    assert done.code == 0, done.err
    lr, head_lr = map(float, re.search(r"--optim\.lr (\S+) --optim\.head_lr (\S+) ", done.out).groups())
    assert head_lr == pytest.approx(10 * lr, rel=0.1)


def test_a_frozen_backbone_is_tested_on_cached_features(script, synthetic):
    done = script("find_lr", *tiny_args(synthetic, *SHORT, "--model.frozen_epochs", "all"))
    assert done.code == 0, done.err
    assert "suggestion: --optim.lr" in done.out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--min-lr", 0], ["--min-lr 0", "above 0"]),
        (["--min-lr", 1, "--max-lr", 0.1], ["--min-lr 1", "--max-lr 0.1"]),
        (["--max-lr", "inf"], ["--max-lr inf"]),
        (["--updates", 21], ["--updates 21", "at least 22"]),
        (["--fold", 2], ["--fold 2", "0 to 1"]),
        (["--out", "a.pdf"], ["--out a.pdf", ".png"]),
        (["--data.image_size", 33, 33], ["data.image_size", "is ignored"]),
    ],
)
def test_wrong_flags_are_errors(script, synthetic, more, words):
    refused(script("find_lr", *tiny_args(synthetic, *more)), *words)
    assert not list(Path().glob("*.png"))


def test_torchrun_is_refused(script, synthetic, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(script("find_lr", *tiny_args(synthetic)), "environment", "without torchrun")


def test_too_little_gpu_memory_is_an_error(script, synthetic, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(range_test_module, "training_step", fail)
    refused(script("find_lr", *tiny_args(synthetic)), "optim.accum_steps", "fold0", "auto")
