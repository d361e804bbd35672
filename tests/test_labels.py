import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskfold.labels import CLASS_NAMES, NUM_CLASSES, age_group, decode_label, encode_label, marginals, stratum


def test_classes_computed_by_hand():
    assert NUM_CLASSES == 18
    assert encode_label(0, 0, 0) == 0
    assert encode_label(1, 0, 2) == 8
    assert encode_label(2, 1, 2) == 17
    assert CLASS_NAMES[8] == "incorrect, male, >=60"


@pytest.mark.parametrize(("age", "group"), [(18, 0), (29, 0), (30, 1), (59, 1), (60, 2), (61, 2)])
def test_age_borders(age, group):
    assert age_group(age) == group


@given(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2))
def test_decode_inverts_encode(mask, gender, age):
    label = encode_label(mask, gender, age)
    assert tuple(int(part) for part in decode_label(label)) == (mask, gender, age)
    assert stratum(label) == stratum(encode_label(0, gender, age))


@pytest.mark.parametrize("parts", [(3, 0, 0), (0, 2, 0), (0, 0, -1)])
def test_an_index_out_of_range_is_refused(parts):
    with pytest.raises(ValueError, match="outside"):
        encode_label(*parts)


@pytest.mark.parametrize("label", [-1, 18])
def test_a_label_out_of_range_is_refused(label):
    with pytest.raises(ValueError, match="outside"):
        decode_label(label)


def test_marginals_sum_over_the_other_axes():
    probs = np.zeros((1, 18))
    probs[0, [0, 5, 17]] = 0.5, 0.3, 0.2
    axes = marginals(probs)
    np.testing.assert_allclose(axes["mask"], [[0.8, 0, 0.2]])
    np.testing.assert_allclose(axes["gender"], [[0.5, 0.5]])
    np.testing.assert_allclose(axes["age"], [[0.5, 0, 0.5]])
