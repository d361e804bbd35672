import math
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import plain_train_state, train_one_epoch
from torch.utils.data import DataLoader

from maskfold.config.experiment import Config, Data, Loss, Model, Optim, replaced
from maskfold.errors import UserError
from maskfold.loading.sampler import PhotoBatchSampler
from maskfold.models.classifier import build_classifier
from maskfold.models.device import Hardware
from maskfold.models.prediction_loop import predict
from maskfold.models.tta import VIEWS
from maskfold.training.optim import lr_factor, make_optimizer, set_lr

CPU = Hardware(torch.device("cpu"), torch.float32)
CONFIG = Config(model=Model(backbone="test_convnext"), data=Data(image_size=(32, 32)))


class KeyedPhotos(list):
    """A list that is indexed with the keys of PhotoBatchSampler: (epoch, row, visit)."""

    def __getitem__(self, key):
        return super().__getitem__(key[1])


def photos(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 18, (n,), generator=generator)
    return [(images[i], labels[i], i) for i in range(n)]


def gradients(accum_steps, loss, n=70):
    """Gradients of each update of one epoch: `n` photos in batches of 32, the last one of 6. The weights stay fixed."""
    torch.manual_seed(0)
    model = build_classifier(CONFIG)
    seen = []

    class Recorder(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([p.grad.clone() for group in self.param_groups for p in group["params"]])

    data = photos(n)
    counts = np.bincount([int(label) for _, label, _ in data], minlength=18)
    optimizer = Recorder(model.parameters(), lr=1.0)
    loader = DataLoader(KeyedPhotos(data), batch_sampler=PhotoBatchSampler(np.arange(n), 32, shuffle=False))
    train_state = plain_train_state(
        model, optimizer, replaced(CONFIG, loss=loss.model_dump()), counts, accum_steps=accum_steps
    )
    return seen, train_one_epoch(train_state, loader)[0]


@pytest.mark.parametrize("weights", ["none", "inverse"])
@pytest.mark.parametrize("name", ["cross_entropy", "focal", "soft_f1"])
def test_accumulation_gives_the_unsplit_gradient(weights, name):
    plus = "cross_entropy" if name == "soft_f1" else None
    loss = Loss(name=name, plus=plus, class_weights=weights, label_smoothing=0.1)
    whole, mean = gradients(1, loss)
    assert len(whole) == 3
    for steps in (2, 4):
        parts, part_mean = gradients(steps, loss)
        assert part_mean == pytest.approx(mean, rel=1e-5)
        for ours, expected in zip(parts, whole, strict=True):
            for a, b in zip(ours, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_gradient_is_that_of_the_mean_loss_over_the_batch():
    """Compared with torch.nn.functional.nll_loss."""
    seen, _ = gradients(4, Loss())
    torch.manual_seed(0)
    model = build_classifier(CONFIG).train()
    last = photos(70)[64:]
    images, labels = torch.stack([image for image, _, _ in last]), torch.stack([label for _, label, _ in last])
    torch.nn.functional.nll_loss(model(images), labels).backward()
    for ours, parameter in zip(seen[2], model.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-4, atol=1e-6)


def test_soft_f1_with_accumulation_updates_batch_norm_once():
    """The forward pass for the F1 sums leaves running statistics and their counter unchanged."""
    config = replaced(CONFIG, model={"backbone": "test_resnet"})
    seen = []
    for loss in (Loss(name="soft_f1"), Loss()):
        torch.manual_seed(0)
        model = build_classifier(config)
        still = torch.optim.SGD(model.parameters(), lr=0.0)
        loader = DataLoader(KeyedPhotos(photos(24)), batch_sampler=PhotoBatchSampler(np.arange(24), 12, shuffle=False))
        train_one_epoch(
            plain_train_state(model, still, replaced(config, loss=loss.model_dump()), accum_steps=2), loader
        )
        seen.append(dict(model.named_buffers()))
    assert any("num_batches" in name for name in seen[0])
    for name, buffer in seen[0].items():
        torch.testing.assert_close(buffer, seen[1][name], msg=name)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext"])
@pytest.mark.parametrize("own_error", [False, True])
def test_an_error_on_a_single_photo_is_only_reported_as_that_of_batch_norm_with_batch_norm(backbone, own_error):
    """A net without batch norm trains on one photo, and its errors keep their type."""
    torch.manual_seed(0)
    model = build_classifier(replaced(CONFIG, model={"backbone": backbone}))
    has_batch_norm = backbone == "test_resnet"

    def fail(*_):
        raise ValueError("an error of the backbone")

    if own_error:
        model.backbone.register_forward_pre_hook(fail)
    loader = DataLoader(KeyedPhotos(photos(1)), batch_sampler=PhotoBatchSampler(np.arange(1), 4, shuffle=False))
    ours = plain_train_state(model, torch.optim.SGD(model.parameters(), lr=0.0))
    if has_batch_norm:
        with pytest.raises(UserError, match=r"optim\.batch_size.*batch norm"):
            train_one_epoch(ours, loader)
    elif own_error:
        with pytest.raises(ValueError, match="an error of the backbone"):
            train_one_epoch(ours, loader)
    else:
        train_one_epoch(ours, loader)


def test_the_mean_gradient_norm_ignores_infinite_norms(monkeypatch):
    """The norm of the first of two updates is infinite, so the mean norm is that of the second."""
    torch.manual_seed(0)
    model, data = build_classifier(CONFIG), photos(24)
    loader = DataLoader(KeyedPhotos(data), batch_sampler=PhotoBatchSampler(np.arange(24), 12, shuffle=False))
    ours, norms = plain_train_state(model, torch.optim.SGD(model.parameters(), lr=0.0)), []
    real = ours.accelerator.clip_grad_norm_

    def clip(parameters, bound):
        parameters = list(parameters)
        norms.append(torch.stack([p.grad.norm() for p in parameters]).norm())
        norm = real(parameters, bound)
        return torch.tensor(torch.inf) if len(norms) == 1 else norm

    monkeypatch.setattr(ours.accelerator, "clip_grad_norm_", clip)
    _, norm = train_one_epoch(ours, loader)
    assert len(norms) == 2
    assert norm == pytest.approx(float(norms[1]), rel=1e-4)


def test_hflip_is_the_mean_of_two_softmaxes():
    torch.manual_seed(0)
    model = build_classifier(CONFIG).eval()
    data = photos(5)
    rows, [probs] = predict([model], DataLoader(data, 2), CPU, ("none", "hflip"))
    images = torch.stack([image for image, _, _ in data])
    with torch.inference_mode():
        expected = (model(images).softmax(1) + model(images.flip(3)).softmax(1)) / 2
    assert rows.tolist() == [0, 1, 2, 3, 4]
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)


def test_hflip_mirrors_left_and_right():
    image = torch.arange(6).view(1, 1, 2, 3)
    [seen] = VIEWS["hflip"](image)
    assert seen[0, 0].tolist() == [[2, 1, 0], [5, 4, 3]]


def test_bf16_predictions_are_probabilities():
    model = build_classifier(CONFIG)
    _, [probs] = predict([model], DataLoader(photos(4), 2), Hardware(torch.device("cpu"), torch.bfloat16))
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)


def test_prediction_does_not_change_the_weights():
    model = build_classifier(Config(model=Model(backbone="test_resnet"), data=Data(image_size=(32, 32))))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    predict([model], DataLoader(photos(6), 3), CPU)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_cosine_and_constant_schedules():
    optim = Optim(epochs=4, warmup_epochs=1, schedule="cosine")
    factors = [lr_factor(optim, update, 10) for update in range(41)]
    assert factors[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert factors[10] == 1
    assert factors[25] == pytest.approx(0.5)
    assert factors[39] == pytest.approx(0.5 * (1 + math.cos(math.pi * 29 / 30)))
    assert factors[40] == pytest.approx(0)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    constant = Optim(epochs=4, warmup_epochs=1, schedule="constant")
    assert [lr_factor(constant, update, 10) for update in (9, 10, 39)] == pytest.approx([10 / 11, 1, 1])


def test_the_optimiser_follows_the_schedule_and_does_not_decay_biases():
    model = build_classifier(CONFIG)
    optim = Optim(lr=0.01, weight_decay=0.1, epochs=2, warmup_epochs=0)
    optimizer = make_optimizer(model, optim)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert decays[id(parameter)] == (0.1 if parameter.ndim > 1 else 0), name
    for update in range(10):
        set_lr(optimizer, lr_factor(optim, update, 5))
        assert {group["lr"] for group in optimizer.param_groups} == {0.01 * lr_factor(optim, update, 5)}


def test_batch_size_and_other_models_change_no_prediction():
    """Batches of one, three or seven photos, one model or two in one pass: equal probabilities."""
    torch.manual_seed(0)
    models, data = [build_classifier(CONFIG) for _ in range(2)], photos(7)
    _, together = predict(models, DataLoader(data, 7), CPU, ("none", "hflip"))
    assert together.shape == (2, 7, 18)
    assert np.abs(together[0] - together[1]).max() > 1e-3
    for model, expected in zip(models, together, strict=True):
        for size in (1, 3):
            _, [alone] = predict([model], DataLoader(data, size), CPU, ("none", "hflip"))
            np.testing.assert_allclose(alone, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_the_allocator_keeps_freed_memory():
    """In a separate process: 200 MB that were freed stay allocated after configure_process, and are returned without it."""
    code = """
import sys, torch
from maskfold.models.device import configure_process
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
if sys.argv[1] == "fast":
    configure_process(torch.device("cpu"))
before = resident()
block = torch.ones(50 * 2**20)
del block
print(resident() - before)
"""
    kept = [
        float(subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True).stdout)
        for how in ("fast", "plain")
    ]
    assert kept[0] > 150
    assert kept[1] < 50


def test_tta_views_cut_out_the_expected_windows():
    """The pixels of the photo are their own coordinates, so a TTA view shows which window it cuts out."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(20.0), indexing="ij")
    photo = torch.stack([y, x, torch.zeros(40, 20)])[None].to(torch.uint8)

    def middle(seen):
        return seen[0, 0, 19:21].mean().item(), seen[0, 1, :, 9:11].mean().item()

    assert VIEWS["none"](photo)[0] is photo
    [closer], [farther] = VIEWS["zoom_in"](photo), VIEWS["zoom_out"](photo)
    assert middle(closer) == pytest.approx((19.5, 9.5), abs=0.01)
    # The window's sides are 9/10 or 10/9 of the photo's.
    for seen, share in ((closer, 0.9), (farther, 1 / 0.9)):
        inner = seen[0, 0, 30, 10] - seen[0, 0, 10, 10]
        assert float(inner) == pytest.approx(20 * share, abs=0.1)
    shifts = [middle(seen) for seen in VIEWS["shift"](photo)]
    expected_shifts = [(19.5, 10.3), (19.5, 8.7), (21.1, 9.5), (17.9, 9.5)]
    for shift, expected in zip(shifts, expected_shifts, strict=True):
        assert shift == pytest.approx(expected, abs=0.1)
    crops = VIEWS["five_crop"](photo)
    assert [middle(seen) for seen in crops] == [
        pytest.approx(center, abs=0.05)
        for center in [(19.5, 9.5), (17.5, 8.5), (17.5, 10.5), (21.5, 8.5), (21.5, 10.5)]
    ]
    assert all(seen.shape == photo.shape for seen in crops)


def test_a_tta_view_of_several_batches_counts_as_one():
    """none and five_crop: weight 1/2 for none, 1/10 for each crop."""
    torch.manual_seed(0)
    model = build_classifier(CONFIG).eval()
    data = photos(5)
    _, [probs] = predict([model], DataLoader(data, 5), CPU, ("none", "five_crop"))
    images = torch.stack([image for image, _, _ in data])
    with torch.inference_mode():
        crops = sum(model(crop).exp() for crop in VIEWS["five_crop"](images)) / 5
        expected = (model(images).exp() + crops) / 2
    np.testing.assert_allclose(probs, expected.numpy(), atol=1e-6)
