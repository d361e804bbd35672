import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskfold.config.experiment import Loss
from maskfold.models.losses import BatchLoss, class_weights, cross_entropy, focal, smooth_labels
from maskfold.models.targets import Targets

EVEN = np.full(18, 10)


def random_batch(n=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 18, generator=generator).log_softmax(1), torch.randint(18, (n,), generator=generator)


def one_hot(labels):
    return torch.nn.functional.one_hot(labels, 18).float()


def loss_of(config, counts, log_probs, classes):
    """The configured loss of a whole batch."""
    return BatchLoss(config, counts)((log_probs, None), Targets(classes, torch.zeros(len(classes), 1)), len(classes))


def test_cross_entropy_equals_torch():
    log_probs, labels = random_batch()
    torch.testing.assert_close(
        cross_entropy(log_probs, smooth_labels(one_hot(labels), 0.0)),
        torch.nn.functional.nll_loss(log_probs, labels, reduction="none"),
    )
    logits = torch.randn(7, 18, generator=torch.Generator().manual_seed(3))
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(cross_entropy(logits.log_softmax(1), smooth_labels(one_hot(labels), 0.1)), expected)


def test_focal():
    """p = .25 on the true class, gamma 2: .75^2 * ln 4 = .7797905..."""
    probs = torch.full((1, 18), 0.75 / 17)
    probs[0, 4] = 0.25
    loss = focal(probs.log(), one_hot(torch.tensor([4])), gamma=2.0)
    assert float(loss) == pytest.approx(0.5625 * math.log(4), rel=1e-5)


def test_label_smoothing():
    target = smooth_labels(one_hot(torch.tensor([2])), 0.18)
    assert float(target[0, 2]) == pytest.approx(0.82 + 0.01)
    assert float(target[0, 3]) == pytest.approx(0.01)
    assert float(target.sum()) == pytest.approx(1)


@given(st.integers(0, 1000))
def test_focal_with_gamma_0_is_cross_entropy(seed):
    log_probs, labels = random_batch(seed=seed)
    plain = loss_of(Loss(name="cross_entropy"), EVEN, log_probs, one_hot(labels))
    assert torch.equal(loss_of(Loss(name="focal", gamma=0.0), EVEN, log_probs, one_hot(labels)), plain)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_has_finite_gradients_at_probability_1(gamma):
    logits = torch.tensor([[100.0] + [0.0] * 17], requires_grad=True)
    focal(logits.log_softmax(1), smooth_labels(one_hot(torch.tensor([0])), 0.1), gamma).sum().backward()
    assert torch.isfinite(logits.grad).all()


@given(st.lists(st.integers(0, 500), min_size=18, max_size=18).filter(any))
def test_class_weights_have_mean_1_over_the_photos(counts):
    counts = np.array(counts)
    effective = class_weights(Loss(class_weights="effective", effective_beta=0.99), counts).double().numpy()
    assert (effective * counts).sum() / counts.sum() == pytest.approx(1, rel=1e-5)
    weights = class_weights(Loss(class_weights="inverse"), counts).double().numpy()
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1, rel=1e-5)
    present = counts[counts > 0] * weights[counts > 0]
    np.testing.assert_allclose(present, present[0], rtol=1e-5)
    assert np.isfinite(weights).all()


def test_class_weights():
    counts = np.zeros(18, int)
    counts[:2] = 3, 1
    # 1/3 and 1, scaled by 4 photos / (3 * 1/3 + 1 * 1).
    assert class_weights(Loss(class_weights="inverse"), counts)[:3].tolist() == pytest.approx([2 / 3, 2, 0])
    assert class_weights(Loss(), counts)[:2].tolist() == [1, 1]
    # beta .5: effective numbers 1.75 and 1; 4 photos / (3 / 1.75 + 1) makes the mean 1.
    effective = class_weights(Loss(class_weights="effective", effective_beta=0.5), counts)
    assert effective[:3].tolist() == pytest.approx([4 / (3 / 1.75 + 1) / 1.75, 4 / (3 / 1.75 + 1), 0])


@pytest.mark.parametrize("kind", ["inverse", "effective"])
@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_class_weights_scale_gradients_in_their_ratio(kind, name):
    """The gradient of a photo with class weights is the weight of its class times the gradient without."""
    log_probs, labels = random_batch()
    config, counts, gradients = Loss(name=name, class_weights=kind), np.arange(1, 19), []
    for each in (Loss(name=name), config):
        logits = log_probs.clone().requires_grad_()
        loss_of(each, counts, logits.log_softmax(1), one_hot(labels)).backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(gradients[1], gradients[0] * class_weights(config, counts)[labels][:, None])


def soft_f1_in_loops(probs, classes):
    """1 - the mean over classes of (2 sum p t + 1) / (sum p + sum t + 1), in loops."""
    scores = []
    for k in range(18):
        hit = sum(float(p[k]) * float(t[k]) for p, t in zip(probs, classes, strict=True))
        both = sum(float(p[k]) + float(t[k]) for p, t in zip(probs, classes, strict=True))
        scores.append((2 * hit + 1) / (both + 1))
    return 1 - sum(scores) / 18


def test_soft_f1_and_its_gradient():
    log_probs, labels = random_batch(11)
    logits = log_probs.double().requires_grad_()
    classes = one_hot(labels).double()
    loss = BatchLoss(Loss(name="soft_f1"), EVEN)((logits.log_softmax(1), None), Targets(classes, classes[:, :1]), 11)
    assert float(loss.detach()) == pytest.approx(soft_f1_in_loops(logits.detach().softmax(1), classes))
    loss.backward()
    ours, logits.grad = logits.grad, None
    probs = logits.softmax(1)
    (1 - ((2 * (probs * classes).sum(0) + 1) / (probs.sum(0) + classes.sum(0) + 1)).mean()).backward()
    torch.testing.assert_close(ours, logits.grad)


@given(st.integers(0, 1000), st.floats(0.01, 0.9))
def test_soft_f1_falls_when_predictions_improve(seed, step):
    log_probs, labels = random_batch(seed=seed)
    better = log_probs.exp() * (1 - step) + one_hot(labels) * step
    before, after = (loss_of(Loss(name="soft_f1"), EVEN, p, one_hot(labels)) for p in (log_probs, better.log()))
    assert after < before
    perfect = loss_of(Loss(name="soft_f1"), EVEN, (one_hot(labels) + 1e-12).log(), one_hot(labels))
    assert float(perfect) == pytest.approx(0, abs=1e-5)


def test_soft_f1_gives_every_logit_a_gradient_with_an_absent_class():
    """Class 17 has no photo: its logits get a positive gradient, and every logit of every photo has a gradient."""
    logits = random_batch(20)[0].requires_grad_()
    labels = torch.arange(20) % 17
    loss_of(Loss(name="soft_f1"), EVEN, logits.log_softmax(1), one_hot(labels)).backward()
    assert (logits.grad != 0).all()
    assert (logits.grad[:, 17] > 0).all()


def test_loss_plus_is_a_weighted_sum():
    log_probs, labels = random_batch()

    def value(**keys):
        return float(loss_of(Loss(**keys), EVEN, log_probs, one_hot(labels)))

    plain, focal_, f1 = value(), value(name="focal"), value(name="soft_f1")
    assert value(plus="soft_f1", plus_weight=0.5) == pytest.approx(plain + 0.5 * f1)
    assert value(name="soft_f1", plus="focal", plus_weight=2) == pytest.approx(f1 + 2 * focal_)


def test_a_photo_of_weight_0_has_no_influence():
    log_probs, labels = random_batch()
    config = Loss(plus="soft_f1", label_smoothing=0.1)
    classes = one_hot(labels)
    classes[2] = 0
    kept = torch.arange(len(labels)) != 2
    fewer = BatchLoss(config, EVEN)((log_probs[kept], None), Targets(classes[kept], classes[kept, :1]), len(labels))
    torch.testing.assert_close(loss_of(config, EVEN, log_probs, classes), fewer)
