import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskfold.config.experiment import Config, Loss, Model
from maskfold.labels import age_bins, age_group, marginals
from maskfold.models.heads import FactoredHead, JointHead
from maskfold.models.losses import BatchLoss
from maskfold.models.targets import UNKNOWN_AGE, TargetEncoder, Targets, age_targets


def factored(years=1, features=8, **keys):
    torch.manual_seed(0)
    return FactoredHead(features, Model(head="factored", age_bin_years=years, **keys)).eval()


@given(seed=st.integers(0, 1000), years=st.integers(1, 30))
def test_probabilities_of_the_factored_head_are_the_product_of_its_axes(seed, years):
    head = factored(years)
    features = torch.randn(5, 8, generator=torch.Generator().manual_seed(seed))
    log_probs, ages = head(features, with_ages=True)
    assert torch.equal(log_probs, head(features))
    assert log_probs.shape == (5, 18)
    probs = log_probs.detach().exp().double().numpy()
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)
    axes = marginals(probs)
    product = np.einsum("nm,ng,na->nmga", axes["mask"], axes["gender"], axes["age"]).reshape(5, 18)
    np.testing.assert_allclose(probs, product, atol=1e-6)
    # The marginals equal the head's softmaxes; the probability of an age group is the sum over its bins.
    logits = head.linear(features).detach()
    np.testing.assert_allclose(axes["mask"], logits[:, :3].softmax(1), atol=1e-5)
    np.testing.assert_allclose(axes["gender"], logits[:, 3:5].softmax(1), atol=1e-5)
    groups, by_bin = age_group(age_bins(years)), ages.detach().exp().numpy()
    sums = np.stack([by_bin[:, groups == group].sum(1) for group in range(3)], 1)
    np.testing.assert_allclose(axes["age"], sums, atol=1e-5)


@pytest.mark.parametrize("years", [1, 4, 7, 12, 30])
@pytest.mark.parametrize(("age", "group"), [(18, 0), (29, 0), (30, 1), (59, 1), (60, 2)])
def test_age_bins_belong_to_the_right_age_group(years, age, group):
    """With all probability on the bin of an age, the age group of that age has probability 1."""
    head = factored(years, head_init="zero")
    own = np.digitize(age, age_bins(years)[1:])
    with torch.no_grad():
        head.linear.bias[5 + own] = 200
    group_probs = marginals(head(torch.zeros(1, 8)).detach().double().exp())["age"][0]
    np.testing.assert_allclose(group_probs, np.eye(3)[group], atol=1e-6)


def test_age_bins():
    assert age_bins(1).tolist() == list(range(18, 61))
    assert age_bins(30).tolist() == [18, 30, 60]
    assert age_bins(5).tolist() == [18, 23, 28, 30, 35, 40, 45, 50, 55, 60]


def test_the_joint_head_predicts_no_ages():
    torch.manual_seed(0)
    head = JointHead(8, Model()).eval()
    log_probs, ages = head(torch.ones(2, 8), with_ages=True)
    assert ages is None
    assert torch.equal(log_probs, head(torch.ones(2, 8)))


@pytest.mark.parametrize("head", [JointHead, FactoredHead])
def test_head_init_zero_gives_uniform_probabilities(head):
    probs = head(8, Model(head_init="zero", age_bin_years=30))(torch.randn(4, 8)).exp()
    torch.testing.assert_close(probs, torch.full((4, 18), 1 / 18))
    assert head(8, Model())(torch.randn(4, 8)).std() > 0


def normal_cdf(x):
    return (1 + math.erf(x / 2**0.5)) / 2


def test_age_targets():
    """Sigma 2, bins of one year: for age 30 the bin of 30 is the integral from 29.5 to 30.5."""
    targets = age_targets(1, 2.0)
    assert targets.shape == (121, 43)
    assert targets[30, 12] == pytest.approx(normal_cdf(0.25) - normal_cdf(-0.25))
    assert targets[30, 11] == pytest.approx(normal_cdf(-0.25) - normal_cdf(-0.75))
    # The last bin integrates from 59.5 to infinity, the first from -infinity to 18.5.
    assert targets[60, 42] == pytest.approx(1 - normal_cdf(-0.25))
    assert targets[80, 42] == pytest.approx(1)
    assert targets[18, 0] == pytest.approx(normal_cdf(0.25))
    np.testing.assert_allclose(targets[1:].sum(1), 1, atol=1e-6)
    assert targets[UNKNOWN_AGE].sum() == 0
    truncated = age_targets(1, 2.0, truncated=True)
    assert (truncated[60:] == np.eye(43)[42]).all()
    assert np.array_equal(truncated[:60], targets[:60])
    three = age_targets(30, 2.0)
    assert three[29].tolist() == pytest.approx([normal_cdf(0.25), 1 - normal_cdf(0.25), 0])
    assert age_targets(1, 0.0)[59].tolist() == np.eye(43)[41].tolist()
    assert age_targets(30, 0.0)[29].tolist() == [1, 0, 0]


def test_the_age_term():
    """Three photos, one without age: the age term is (w / 3) x the sum of the cross entropies of the other two."""
    config = Config(model=Model(head="factored"), loss=Loss(age_weight=0.5, age_sigma=0.0))
    encoder = TargetEncoder(config, np.array([30, 60, UNKNOWN_AGE]), np.ones(3), "cpu")
    targets = encoder(torch.tensor([1, 2, 4]), torch.arange(3))
    log_probs = torch.randn(3, 18).log_softmax(1)
    ages = torch.randn(3, 43).log_softmax(1)
    counts = np.full(18, 5)
    with_term = BatchLoss(config.loss, counts)((log_probs, ages), targets, 3)
    without = BatchLoss(Loss(), counts)((log_probs, ages), targets, 3)
    assert float(with_term - without) == pytest.approx(0.5 * float(-ages[0, 12] - ages[1, 42]) / 3, rel=1e-4)


def test_targets_sum_to_the_weight_of_the_photo():
    encoder = TargetEncoder(Config(), np.array([25, 44]), np.array([1.0, 0.25]), "cpu")
    targets = encoder(torch.tensor([7, 3, -1]), torch.tensor([0, 1, 1]))
    assert targets.classes[0].tolist() == np.eye(18)[7].tolist()
    assert targets.classes[1].tolist() == (0.25 * np.eye(18)[3]).tolist()
    assert targets.classes[2].sum() == targets.ages[2].sum() == 0
    assert targets.ages.sum(1).tolist() == pytest.approx([1, 0.25, 0])
    assert isinstance(targets.chunk(2)[0], Targets)
