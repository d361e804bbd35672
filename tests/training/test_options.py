"""The effect of each training option, on real steps and runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import plain_train_state, refused, tiny_args, train_one_epoch
from safetensors.torch import load_file
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader

from maskfold.config.experiment import Config, Data, Model, Optim
from maskfold.errors import UserError
from maskfold.loading.sampler import PhotoBatchSampler
from maskfold.metrics.scores import scores
from maskfold.models.classifier import build_classifier
from maskfold.probabilities import load_predictions
from maskfold.runs.summary import SELECTED
from maskfold.training.optim import lr_factor, make_optimizer, num_plateau_reductions, should_stop_early


class Photos:
    """Fixed photos, indexed with the keys of PhotoBatchSampler: (epoch, row, visit)."""

    def __init__(self, n=24):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)
        self.labels = torch.randint(0, 18, (n,), generator=generator)

    def __getitem__(self, key):
        return self.images[key[1]], self.labels[key[1]], key[1]


def loader(n=24, batch_size=8):
    return DataLoader(Photos(n), batch_sampler=PhotoBatchSampler(np.arange(n), batch_size, shuffle=False))


def classifier(backbone="test_convnext", **model):
    torch.manual_seed(0)
    return build_classifier(Config(model=Model(backbone=backbone, **model), data=Data(image_size=(32, 32))))


def train_state(model, optim=None, **more):
    optim = optim or Optim(name="sgd", lr=0.1, weight_decay=0.0)
    return plain_train_state(model, make_optimizer(model, optim), **more)


def tensors(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def test_ema_is_the_recurrence():
    model = classifier()
    expected = tensors(model)
    ours = train_state(model, ema=ModelEmaV3(model, decay=0.9))

    def after():
        for name, tensor in model.state_dict().items():
            expected[name] = 0.9 * expected[name] + 0.1 * tensor

    train_one_epoch(ours, loader(), after=after)
    for name, tensor in ours.ema.module.state_dict().items():
        torch.testing.assert_close(tensor, expected[name])
    assert any(not torch.allclose(expected[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("bound", [0.05, 0.5])
def test_clipping_bounds_the_norm(bound):
    """The norm of a clipped gradient is the bound where the norm without clipping is larger."""

    def norms(clip_norm):
        model = classifier()
        ours = train_state(model, Optim(name="sgd", lr=1e-3, weight_decay=0.0), clip_norm=clip_norm)
        values = []
        step = ours.optimizer.step

        def record():
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            values.append(float(torch.linalg.vector_norm(torch.stack([g.norm() for g in grads]))))
            return step()

        ours.optimizer.step = record
        train_one_epoch(ours, loader())
        return values

    free, clipped = norms(0.0), norms(bound)
    assert free[0] > bound
    assert clipped[0] == pytest.approx(bound, rel=1e-3)
    assert max(clipped) <= bound * 1.001


def test_layer_decay_gives_each_layer_its_learning_rate():
    """The rate decays by the factor from layer to layer, from lr in the last to the stem; the head has its own rate."""
    model = classifier()
    optimizer = make_optimizer(model, Optim(lr=0.01, head_lr=0.05, layer_decay=0.5))
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    by_name = {name: rate[id(p)] for name, p in model.named_parameters()}
    from timm.models import group_parameters

    layers = group_parameters(model.backbone, model.backbone.group_matcher(coarse=False), reverse=True)
    deepest = max(layers.values())
    for name, layer in layers.items():
        assert by_name[f"backbone.{name}"] == pytest.approx(0.01 * 0.5 ** (deepest - layer)), name
    assert len(set(layers.values())) > 2
    assert by_name["head.linear.weight"] == by_name["head.linear.bias"] == 0.05


def test_every_parameter_is_in_one_group():
    for optim in (Optim(), Optim(layer_decay=0.7, head_lr=0.1)):
        model = classifier("test_resnet")
        ids = [id(p) for group in make_optimizer(model, optim).param_groups for p in group["params"]]
        assert sorted(ids) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion", "nadamw"])
def test_timm_optimisers_reduce_the_loss(name):
    model = classifier()
    optim = Optim(name=name, lr=0.05 if name == "sgd" else 2e-3)
    ours = train_state(model, optim)
    first, _ = train_one_epoch(ours, loader())
    for _ in range(6):
        last, _ = train_one_epoch(ours, loader())
    assert last < first


def test_an_unknown_optimiser_suggests_the_nearest():
    with pytest.raises(UserError, match=r"optim\.name: timm has no adamww; did you mean .*adamw"):
        make_optimizer(classifier(), Optim(name="adamww"))


def test_step_and_epoch_schedules():
    step = Optim(epochs=9, warmup_epochs=0, schedule="step", step_epochs=3, step_gamma=0.1)
    assert [lr_factor(step, 10 * epoch, 10) for epoch in (0, 2, 3, 5, 6, 8)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert lr_factor(step, 89, 10) == pytest.approx(0.01)
    by_epoch = Optim(epochs=4, warmup_epochs=0, schedule="cosine", schedule_by="epoch")
    assert len({lr_factor(by_epoch, update, 10) for update in range(10, 20)}) == 1
    assert lr_factor(by_epoch, 39, 10) == pytest.approx(0.5 * (1 + np.cos(np.pi * 0.75)))
    by_update = Optim(epochs=4, warmup_epochs=0, schedule="cosine")
    assert lr_factor(by_update, 39, 10) == pytest.approx(0.5 * (1 + np.cos(np.pi * 39 / 40)))


def test_plateau_reduces_the_rate():
    """Patience 1: the rate is reduced after the second epoch in a row without a better score."""
    assert num_plateau_reductions([0.1, 0.2, 0.2], 1) == 0
    assert num_plateau_reductions([0.1, 0.2, 0.2, 0.1], 1) == 1
    assert num_plateau_reductions([0.1, 0.2, 0.2, 0.1, 0.2, 0.2], 1) == 2
    assert num_plateau_reductions([0.1, 0.2, 0.2, 0.3, 0.2], 1) == 0
    optim = Optim(schedule="plateau", plateau_patience=1, step_gamma=0.5, warmup_epochs=0)
    assert lr_factor(optim, 100, 10, [0.1, 0.2, 0.2, 0.1]) == 0.5


def test_plateau_equals_torch_reduce_lr_on_plateau():
    scores = np.random.default_rng(0).random(60).round(1).tolist()
    for patience in (0, 1, 3):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "max", 0.5, patience, threshold=0, min_lr=0, eps=0
        )
        for n, score in enumerate(scores, 1):
            theirs.step(score)
            assert 0.5 ** num_plateau_reductions(scores[:n], patience) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_early_stopping_counts_epochs_without_a_better_score():
    assert not should_stop_early([0.1, 0.2, 0.3], 0)
    assert not should_stop_early([0.3, 0.2], 2)
    assert should_stop_early([0.3, 0.2, 0.3], 2)
    assert not should_stop_early([0.3, 0.2, 0.31], 2)


def test_a_frozen_backbone_stays_and_an_unfrozen_one_changes():
    """For parameters and batch norm's statistics."""
    model = classifier("test_resnet")
    ours = train_state(model)
    model.freeze_backbone(True)
    before = tensors(model)
    train_one_epoch(ours, loader())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("backbone."), name
    model.freeze_backbone(False)
    before = tensors(model)
    train_one_epoch(ours, loader())
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert any("running_mean" in name for name in moved)
    assert {name for name, _ in model.named_parameters()} <= moved


def test_gradient_checkpointing_gives_the_same_gradient():
    def gradients(**keys):
        model = classifier("test_vit", **keys).train()
        model(Photos().images).sum().backward()
        return [p.grad for p in model.parameters()]

    for a, b in zip(gradients(), gradients(grad_checkpointing=True), strict=True):
        torch.testing.assert_close(a, b)


def rows_of(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def test_the_learning_rates_of_a_run_follow_the_formula(script, synthetic):
    args = tiny_args(synthetic, "--name", "r", "--folds", 0, "--optim.head_lr", 0.5, "--optim.lr", 0.25)
    assert script("train", *args).code == 0
    updates = -(-42 // 16)
    for row in rows_of("runs/r/fold0"):
        factor = lr_factor(Optim(epochs=2, warmup_epochs=0), (row["epoch"] - 1) * updates, updates)
        assert (row["lr"], row["head_lr"]) == pytest.approx((0.25 * factor, 0.5 * factor))


def test_unfreezing_after_an_epoch(script, synthetic, tmp_path):
    """One run with the backbone frozen for both epochs, one that unfreezes it after the first."""
    for epochs in (1, 2):
        args = tiny_args(synthetic, "--name", f"f{epochs}", "--folds", 0, "--model.frozen_epochs", epochs)
        assert script("train", *args, "--model.backbone", "test_resnet").code == 0
    unfrozen, frozen = (load_file(f"runs/f{epochs}/fold0/model.safetensors") for epochs in (1, 2))
    torch.manual_seed(42)
    start = build_classifier(Config(model=Model(backbone="test_resnet"), data=Data(image_size=(32, 32)))).state_dict()
    for name in frozen:
        if name.startswith("backbone."):
            assert torch.equal(frozen[name], start[name]), name
    assert any(not torch.equal(unfrozen[name], start[name]) for name in unfrozen if "running_var" in name)
    assert rows_of("runs/f1/fold0")[0]["val_loss"] == rows_of("runs/f2/fold0")[0]["val_loss"]


def test_cached_features_equal_uncached_features(script, synthetic):
    args = tiny_args(
        synthetic, "--folds", 0, 1, "--model.frozen_epochs", "all", "--data.augment", "none", "--optim.lr", 0.02
    )
    args += ["--model.backbone", "test_resnet", "--model.drop_rate", 0.2, "--optim.ema_decay", 0.5]
    # Cached features are computed in the precision of predictions, uncached ones in that of training.
    args += ["--run.predict_precision", "fp32"]
    assert script("train", *args, "--name", "cached").code == 0
    assert script("train", *args, "--name", "uncached", "--model.cache_features", "false").code == 0
    cached, uncached = (load_predictions(Path(f"runs/{name}/oof.npz")) for name in ("cached", "uncached"))
    np.testing.assert_allclose(cached.probs, uncached.probs, atol=2e-4)
    for fold in (0, 1):
        for a, b in zip(rows_of(f"runs/cached/fold{fold}"), rows_of(f"runs/uncached/fold{fold}"), strict=True):
            assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-4)
    assert script("submit", "cached", "--out", "a.csv").code == 0


def test_metrics_contain_the_scores_of_the_raw_weights_beside_the_ema(script, synthetic):
    """The EMA does not influence training: its raw weights are those of a run without EMA."""
    args = tiny_args(synthetic, "--folds", 0, "--optim.lr", 0.02)
    assert script("train", *args, "--name", "plain").code == 0
    assert script("train", *args, "--name", "averaged", "--optim.ema_decay", 0.9).code == 0
    plain, averaged = rows_of("runs/plain/fold0"), rows_of("runs/averaged/fold0")
    assert not any(key.startswith("raw_") for row in plain for key in row)
    for a, b in zip(plain, averaged, strict=True):
        assert (a["val_loss"], a["macro_f1"]) == (b["raw_val_loss"], b["raw_macro_f1"])
        assert b["val_loss"] != b["raw_val_loss"]
    oof = load_predictions(Path("runs/averaged/fold0/oof.npz"), out_of_fold=True)
    assert scores(oof.label, oof.pred_labels)["macro_f1"] == averaged[-1]["macro_f1"]


def test_early_stopping_ends_a_fold_and_reports_selection(script, synthetic):
    """With a learning rate near 0 no epoch is better than the first."""
    args = tiny_args(
        synthetic, "--name", "e", "--folds", 0, "--optim.epochs", 9, "--optim.early_stop", 2, "--optim.lr", 1e-12
    )
    done = script("train", *args)
    assert done.code == 0, done.err
    assert len(rows_of("runs/e/fold0")) == 3
    assert SELECTED in done.out
    # The same command again finds the fold finished.
    assert "already finished" in script("train", *args).err


@pytest.mark.slow
def test_a_refit_trains_on_everybody_and_is_predicted_with_the_folds(script, synthetic):
    args = tiny_args(synthetic, "--name", "whole")
    assert script("train", *args).code == 0
    assert script("submit", "whole", "--out", "before.csv").code == 0
    folds_only = load_predictions(Path("runs/whole/eval-none.npz"))
    done = script("train", *args, "--refit")
    assert done.code == 0, done.err
    assert done.err.count("already finished") == 2
    rows = rows_of("runs/whole/full")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert "macro_f1" not in rows[0]
    assert not Path("runs/whole/full/oof.npz").exists()
    assert script("submit", "whole", "--out", "after.csv").code == 0
    manifest = json.loads(Path("after.json").read_text())
    assert manifest["members"][0]["refit"] is True
    assert set(manifest["members"][0]["checkpoints"]) == {"fold0", "fold1", "full"}
    assert json.loads(Path("before.json").read_text())["members"][0]["refit"] is False
    together = load_predictions(Path("runs/whole/eval-none.npz"))
    from maskfold.inference.predict_members import Member, predict_members
    from maskfold.runs.run_data import prepared_of
    from maskfold.runs.run_folder import RunFolder

    run = RunFolder(Path("runs/whole"))
    weights = [load_file(f"runs/whole/{part}/model.safetensors") for part in ("fold0", "full")]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    # The mean of three models: the refit's probabilities are 3 x the new mean - 2 x the mean of the folds.
    full = 3 * together.probs - 2 * folds_only.probs
    np.testing.assert_allclose(full.sum(1), 1, atol=1e-4)
    assert (full > -1e-4).all()
    assert "already finished" in script("train", *args, "--refit").err
    [(evaluation, _)] = predict_members([Member(run, run.config, prepared_of(run), np.array(["x"]))], ("none",))
    np.testing.assert_allclose(evaluation.probs, together.probs, atol=1e-6)
    refused(script("train", *args, "--refit", "--optim.schedule", "plateau"), "--refit", "plateau")


def test_a_plateau_run_reduces_its_rate_and_reports_selection(script, synthetic):
    args = tiny_args(synthetic, "--name", "p", "--folds", 0, "--optim.epochs", 4, "--optim.schedule", "plateau")
    done = script("train", *args, "--optim.plateau_patience", 0, "--optim.lr", 1e-12)
    assert done.code == 0, done.err
    assert SELECTED in done.out
    assert [row["lr"] / 1e-12 for row in rows_of("runs/p/fold0")] == pytest.approx([1, 1, 0.5, 0.25])


def test_bf16_training_is_close_to_fp32(script, synthetic):
    """The losses differ, but by less than 2%."""
    for precision in ("fp32", "bf16"):
        args = tiny_args(synthetic, "--name", precision, "--folds", 0, "--run.precision", precision)
        args += ["--run.predict_precision", "fp32", "--optim.epochs", 1]
        assert script("train", *args).code == 0
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
    a, b = (rows_of(f"runs/{precision}/fold0")[0]["train_loss"] for precision in ("fp32", "bf16"))
    assert a != b
    assert a == pytest.approx(b, rel=0.02)


@pytest.mark.slow
def test_a_compiled_model_trains_to_the_same_predictions(script, synthetic):
    for name, flag in (("plain", "false"), ("compiled", "true")):
        args = tiny_args(
            synthetic, "--name", name, "--folds", 0, "--run.compile", flag, "--run.predict_precision", "fp32"
        )
        done = script("train", *args)
        assert done.code == 0, done.err
    plain, compiled = (load_predictions(Path(f"runs/{name}/oof.npz")).probs for name in ("plain", "compiled"))
    np.testing.assert_allclose(plain, compiled, atol=1e-3)


def test_balanced_sampling_does_not_change_validation(script, synthetic):
    """Each photo is validated once; the probabilities differ because other photos were sampled for training."""
    for name, sampling in (("all", "all"), ("even", "balanced")):
        done = script("train", *tiny_args(synthetic, "--name", name, "--data.sampling", sampling, "--optim.lr", 0.01))
        assert done.code == 0, done.err
    plain, even = (load_predictions(Path(f"runs/{name}/oof.npz"), True) for name in ("all", "even"))
    assert even.image_id.tolist() == plain.image_id.tolist()
    assert len(set(even.image_id)) == len(even.image_id) == 84
    assert not np.array_equal(plain.probs, even.probs)
