import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import plain_train_state, refused, tiny_args, train_one_epoch

from maskfold.config.experiment import Config, Data, Loss, Mix, Model
from maskfold.labels import is_old
from maskfold.loading.mixing import Mixer
from maskfold.loading.sampler import Partners, train_batch_sampler
from maskfold.models.classifier import build_classifier
from maskfold.models.targets import Targets

BLACK, WHITE = 0, 255


def black_and_white(n=200, height=9, width=7):
    """n black photos of class 0, followed by their white partners of class 1."""
    images = torch.zeros(2 * n, 3, height, width, dtype=torch.uint8)
    images[n:] = WHITE
    classes = torch.zeros(2 * n, 18)
    classes[:n, 0] = classes[n:, 1] = 1
    return images, Targets(classes, torch.zeros(2 * n, 3))


def mixed(n=200, height=9, width=7, **mix):
    images, targets = black_and_white(n, height, width)
    return Mixer(Mix(**mix), seed=3)(images, targets, 1, 0, n)


@pytest.mark.parametrize("mix", [{"name": "cutmix"}, {"name": "half_cutmix"}, {"name": "mixup", "alpha": 0.4}])
def test_the_partners_share_equals_its_share_of_pixels(mix):
    """White partners on black photos: the target's share of the partner's class equals the mean brightness."""
    images, targets = mixed(**mix)
    assert len(images) == 200
    share = images.float().mean((1, 2, 3)) / WHITE
    torch.testing.assert_close(targets.classes[:, 1], share, atol=1e-5, rtol=0)
    torch.testing.assert_close(targets.classes[:, 0], 1 - share, atol=1e-5, rtol=0)
    assert len(set(share.tolist())) > 3
    if mix["name"] != "mixup":
        assert set(images.unique().tolist()) == {BLACK, WHITE}


def test_half_cutmix_pastes_halves():
    """9x7 pixels: left and right halves have 3 and 4 columns, upper and lower ones 4 and 5 rows."""

    def shapes(halves):
        images, targets = mixed(name="half_cutmix", halves=halves)
        white = images[:, 0] == WHITE
        rows, columns = white.any(2).sum(1), white.any(1).sum(1)
        assert (white.sum((1, 2)) == rows * columns).all()
        torch.testing.assert_close(targets.classes[:, 1], white.sum((1, 2)) / 63)
        corners = white[:, 0, 0].float().mean()
        assert 0.4 < corners < 0.6
        return set(zip(rows.tolist(), columns.tolist(), strict=True))

    assert shapes("left_right") == {(9, 3), (9, 4)}
    assert shapes("upper_lower") == {(4, 7), (5, 7)}
    assert shapes("both") == {(9, 3), (9, 4), (4, 7), (5, 7)}


def test_mixup_samples_shares_from_beta():
    """Mean and variance of Beta(alpha, alpha)."""
    for alpha, variance in ((1.0, 1 / 12), (0.2, 1 / (4 * 1.4))):
        _, targets = mixed(4000, 2, 2, name="mixup", alpha=alpha)
        share = targets.classes[:, 1]
        assert float(share.mean()) == pytest.approx(0.5, abs=0.02)
        assert float(share.var()) == pytest.approx(variance, rel=0.06)


def test_cutmix_pastes_a_box_of_the_photos_aspect_ratio():
    images, _ = mixed(400, 40, 20, name="cutmix")
    white = images[:, 0] == WHITE
    rows, columns = white.any(2).sum(1), white.any(1).sum(1)
    assert (white.sum((1, 2)) == rows * columns).all()
    inside = (rows < 30) & (columns < 15) & (rows > 8)
    assert float((rows / columns)[inside].median()) == pytest.approx(2, rel=0.15)


def test_photos_without_partners_stay_unchanged():
    images, targets = black_and_white(5)
    same, kept = Mixer(Mix(name="mixup"), 0)(images[:5], targets.chunk(2)[0], 1, 0, 5)
    assert torch.equal(same, images[:5])
    assert torch.equal(kept.classes, targets.classes[:5])


class FixedLoader:
    """A loader of fixed photos of classes 0 to 17 in turn, with the batches of a run."""

    def __init__(self, config, n=40, rank=0, world_size=1):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)
        self.labels = np.arange(n) % 18
        self.batch_sampler = train_batch_sampler(config, np.arange(n), self.labels, rank, world_size)
        self.batch_sampler.set_epoch(1)

    def __iter__(self):
        for keys in self.batch_sampler:
            signed_rows = np.array([row for _, row, _ in keys])
            rows = np.where(signed_rows < 0, ~signed_rows, signed_rows)
            labels = np.where(signed_rows < 0, -1, self.labels[rows])
            yield self.images[rows], torch.from_numpy(labels), torch.from_numpy(rows)


def gradients(loss, mix, accum_steps=1, world_size=1):
    """Gradient of each update, summed over `world_size` simulated processes. The weights stay fixed."""
    config = Config(
        model=Model(backbone="test_convnext", head="factored"),
        data=Data(image_size=(32, 32)),
        loss=loss | {"age_weight": 0.3},
        mix=mix,
        optim={"batch_size": 16},
    )
    sums = None
    for rank in range(world_size):
        torch.manual_seed(0)
        model, seen = build_classifier(config), []

        class Recorder(torch.optim.SGD):
            def step(self, closure=None, seen=seen):
                seen.append([p.grad.clone() for group in self.param_groups for p in group["params"]])

        ages = np.arange(999) % 43 + 18
        ours = plain_train_state(
            model, Recorder(model.parameters(), lr=1.0), config, ages=ages, accum_steps=accum_steps
        )
        ours.mixer = Mixer(config.mix, config.seed, rank, world_size)
        train_one_epoch(ours, FixedLoader(config, rank=rank, world_size=world_size))
        sums = (
            seen
            if sums is None
            else [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(sums, seen, strict=True)]
        )
    return sums


def assert_close(ours, expected):
    for update, whole in zip(ours, expected, strict=True):
        for a, b in zip(update, whole, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize("mix", [{"name": "mixup"}, {"name": "half_cutmix", "partner": "old"}])
@pytest.mark.parametrize("loss", [{"class_weights": "inverse", "label_smoothing": 0.1}, {"plus": "soft_f1"}])
def test_accumulation_and_processes_keep_the_gradient_of_mixed_batches(loss, mix):
    """40 photos in batches of 16, the last of 8: in three micro-batches each, and by two or three processes."""
    whole = gradients(loss, mix)
    assert len(whole) == 3
    assert_close(gradients(loss, mix, accum_steps=3), whole)
    if "plus" not in loss:
        # The sum over processes: DDP takes the mean of gradients of losses that are multiplied by their number.
        assert_close(gradients(loss, mix, world_size=3), whole)
        assert_close(gradients(loss, mix, world_size=2, accum_steps=2), whole)


def test_the_loss_of_mixed_targets_is_the_weighted_sum_of_two_losses():
    """(1 - share) x loss(own) + share x loss(partner) of the same predictions, with class weights."""
    from maskfold.models.losses import BatchLoss

    log_probs = torch.randn(4, 18).log_softmax(1)
    loss = BatchLoss(Loss(name="focal", class_weights="inverse", label_smoothing=0.1), np.arange(1, 19))
    own, other = torch.eye(18)[[0, 5, 9, 2]], torch.eye(18)[[1, 5, 17, 3]]
    share = torch.tensor([0.25, 0.5, 0.1, 1.0])[:, None]

    def value(classes):
        return loss((log_probs, None), Targets(classes, classes[:, :1]), 4)

    def each(classes):
        return torch.stack(
            [loss((log_probs[i : i + 1], None), Targets(classes[i : i + 1], classes[:1, :1]), 4) for i in range(4)]
        )

    expected = ((1 - share[:, 0]) * each(own) + share[:, 0] * each(other)).sum()
    torch.testing.assert_close(value(torch.lerp(own, other, share)), expected)


def test_training_batches_are_mixed_and_validation_batches_are_not(script, synthetic, monkeypatch):
    """Training batches have as many partners as photos; the Mixer is called for training batches only."""
    from maskfold.loading import mixing

    calls, real = [], mixing.Mixer.__call__

    def spy(self, images, targets, epoch, batch, size):
        mixed, mixed_targets = real(self, images, targets, epoch, batch, size)
        calls.append((len(images), size, mixed.is_floating_point()))
        return mixed, mixed_targets

    monkeypatch.setattr(mixing.Mixer, "__call__", spy)
    args = tiny_args(synthetic, "--folds", 0, "--mix.name", "mixup", "--mix.partner", "old", "--name", "mixed")
    done = script("train", *args)
    assert done.code == 0, done.err
    assert [(size, mixes) for _, size, mixes in calls] == [(16, True), (16, True), (10, True)] * 2
    assert all(seen == 2 * size for seen, size, _ in calls)
    plain = script("train", *tiny_args(synthetic, "--folds", 0, "--name", "plain"))
    assert plain.code == 0
    losses = [
        json.loads(Path(f"runs/{name}/fold0/metrics.jsonl").read_text().splitlines()[-1]) for name in ("mixed", "plain")
    ]
    assert losses[0]["train_loss"] != losses[1]["train_loss"]
    refused(script("train", *args, "--model.frozen_epochs", "all"), "mix.name", "cache_features")


def test_a_fold_without_old_partners_is_an_error_before_training(script, raw):
    """All people of 60 or more are in one fold, so that fold has none of them for training."""
    import pandas as pd

    args = tiny_args(raw, "--data.prepared", "p", "--mix.name", "half_cutmix", "--mix.partner", "old")
    assert script("prepare", "--data", raw, "--out", "p", "--folds", 2).code == 0
    folds = pd.read_csv("p/folds.csv", dtype={"person_id": str})
    folds["fold"] = (folds.age >= 60).astype(int)
    folds.to_csv("p/folds.csv", index=False)
    refused(script("train", *args), "mix.partner old")
    assert not Path("runs").exists()


def test_old_partners_are_training_photos_of_the_fold(synthetic):
    from maskfold.data.folds import split
    from maskfold.data.prepared_folder import PrepareOptions, prepare
    from maskfold.data.raw_layout import find_layout

    prepared = prepare(find_layout(synthetic), synthetic.parent / "for partners", PrepareOptions(2, 1))
    labels = prepared.images.label.to_numpy()
    for fold in (0, 1):
        train, valid = split(prepared.images, prepared.folds, fold)
        if not is_old(labels[train]).any():
            continue
        partners = Partners(Mix(name="mixup", partner="old"), train, labels)(np.random.default_rng(0), train)
        assert not set(partners) & set(valid)
        assert is_old(labels[partners]).all()
