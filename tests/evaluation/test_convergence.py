"""The logistic regression of the baselines reports a fit that did not converge."""

import warnings

import numpy as np
import pytest

from maskfold.evaluation import simple_models


@pytest.mark.parametrize("max_iterations", [1, 300])
def test_a_fit_that_does_not_converge_is_reported(monkeypatch, capsys, max_iterations):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    inputs = (rng.normal(size=(60, 8)) + labels[:, None]).astype(np.float32)
    monkeypatch.setattr(simple_models, "MAX_ITERATIONS", max_iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted = simple_models.logistic_regression(inputs, labels, np.arange(40), np.arange(40, 60))
    assert len(predicted) == 20
    assert ("did not converge" in capsys.readouterr().err) == (max_iterations == 1)
