import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskfold.config import Loss
from maskfold.models.losses import build_loss, class_weights, cross_entropy, focal, smoothed

EVEN = np.full(18, 10)


def random_batch(n=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 18, generator=generator).log_softmax(1), torch.randint(18, (n,), generator=generator)


def test_cross_entropy_is_torchs():
    log_probs, labels = random_batch()
    torch.testing.assert_close(
        cross_entropy(log_probs, smoothed(labels, 0.0)),
        torch.nn.functional.nll_loss(log_probs, labels, reduction="none"),
    )
    logits = torch.randn(7, 18, generator=torch.Generator().manual_seed(3))
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(cross_entropy(logits.log_softmax(1), smoothed(labels, 0.1)), expected)


def test_focal_by_hand():
    """p = .25 on the true class, gamma 2: .75^2 * ln 4 = .7797905..."""
    probs = torch.full((1, 18), 0.75 / 17)
    probs[0, 4] = 0.25
    found = focal(probs.log(), smoothed(torch.tensor([4]), 0.0), gamma=2.0)
    assert float(found) == pytest.approx(0.5625 * math.log(4), rel=1e-5)


def test_smoothed_targets_by_hand():
    target = smoothed(torch.tensor([2]), 0.18)
    assert float(target[0, 2]) == pytest.approx(0.82 + 0.01)
    assert float(target[0, 3]) == pytest.approx(0.01)
    assert float(target.sum()) == pytest.approx(1)


@given(st.integers(0, 1000))
def test_focal_with_gamma_0_is_cross_entropy(seed):
    log_probs, labels = random_batch(seed=seed)
    plain = build_loss(Loss(name="cross_entropy"), EVEN)(log_probs, labels)
    assert torch.equal(build_loss(Loss(name="focal", gamma=0.0), EVEN)(log_probs, labels), plain)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_has_finite_gradients_where_it_is_certain(gamma):
    logits = torch.tensor([[100.0] + [0.0] * 17], requires_grad=True)
    focal(logits.log_softmax(1), smoothed(torch.tensor([0]), 0.1), gamma).sum().backward()
    assert torch.isfinite(logits.grad).all()


@given(st.lists(st.integers(0, 500), min_size=18, max_size=18).filter(any))
def test_class_weights_have_mean_1_over_the_photos(counts):
    counts = np.array(counts)
    weights = class_weights("inverse", counts).double().numpy()
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1, rel=1e-5)
    present = counts[counts > 0] * weights[counts > 0]
    np.testing.assert_allclose(present, present[0], rtol=1e-5)
    assert np.isfinite(weights).all()


def test_class_weights_by_hand():
    counts = np.zeros(18, int)
    counts[:2] = 3, 1
    # 1/3 and 1, scaled by 4 photos / (3 * 1/3 + 1 * 1).
    assert class_weights("inverse", counts)[:3].tolist() == pytest.approx([2 / 3, 2, 0])
    assert class_weights("none", counts)[:2].tolist() == [1, 1]


def test_weights_go_with_the_label():
    log_probs, labels = random_batch()
    counts = np.arange(1, 19)
    plain = build_loss(Loss(), counts)(log_probs, labels)
    weighted = build_loss(Loss(class_weights="inverse"), counts)(log_probs, labels)
    torch.testing.assert_close(weighted, plain * class_weights("inverse", counts)[labels])
