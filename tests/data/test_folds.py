import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskfold.data.catalog import labelled
from maskfold.data.folds import draw_folds, largest_share_difference, split
from maskfold.errors import UserError
from maskfold.labels import KIND_MASK, age_group
from maskfold.synthetic.demo_data import sample_people


def people_table(n: int, seed: int = 0) -> pd.DataFrame:
    people = sample_people(n, np.random.default_rng(seed))
    people["person_id"] = [f"{i:06d}" for i in range(n)]
    people["id"] = people.person_id.str.replace("000003", "000002")
    return people


def photos_of(people: pd.DataFrame) -> pd.DataFrame:
    rows = [(f"{who}/{kind}", who, kind) for who in people.person_id for kind in KIND_MASK]
    return labelled(pd.DataFrame(rows, columns=["image_id", "person_id", "kind"]), people)


@given(n=st.integers(6, 120), folds=st.integers(2, 12), seed=st.integers(0, 2**32 - 1))
def test_every_person_once_every_bin_spread(n, folds, seed):
    people = people_table(n, seed % 7)
    if folds > n:
        with pytest.raises(UserError, match="folds"):
            draw_folds(people, folds, seed)
        return
    drawn, warnings = draw_folds(people, folds, seed)
    assert sorted(drawn.person_id) == sorted(people.person_id)
    counts = pd.crosstab([drawn.gender, age_group(drawn.age)], drawn.fold)
    for _, row in counts.iterrows():
        assert row.max() - row.min() <= 1
    spread = counts.sum(axis=1) >= folds
    assert (counts[spread] > 0).all(axis=None)
    sizes = drawn.fold.value_counts()
    assert len(sizes) == folds
    assert sizes.max() - sizes.min() <= 1
    assert bool(warnings) == (not spread.all())


def test_no_person_on_both_sides():
    people = people_table(60)
    images = photos_of(people)
    drawn, _ = draw_folds(people, 5, 42)
    seen = []
    for fold in range(5):
        train, valid = split(images, drawn, fold)
        assert not set(images.person_id.iloc[train]) & set(images.person_id.iloc[valid])
        assert len(train) + len(valid) == len(images)
        assert (images.person_id.iloc[valid].value_counts() == 7).all()
        seen.extend(valid)
    assert sorted(seen) == list(range(len(images)))


def test_shares_of_classes_differ_by_less_than_a_tenth():
    people = people_table(2400)
    drawn, warnings = draw_folds(people, 5, 42)
    assert not warnings
    assert largest_share_difference(photos_of(people), drawn) < 0.10


def test_the_seed_draws_and_the_order_does_not():
    people = people_table(60)
    drawn, _ = draw_folds(people, 5, 1)
    again, _ = draw_folds(people.iloc[::-1], 5, 1)
    other, _ = draw_folds(people, 5, 2)
    pd.testing.assert_frame_equal(drawn, again)
    assert (drawn.fold != other.fold).any()


def test_people_who_are_not_in_folds_csv_are_refused():
    people = people_table(30)
    images = photos_of(people)
    drawn, _ = draw_folds(people, 3, 0)
    with pytest.raises(UserError, match="other people"):
        split(images, drawn.iloc[1:], 0)
    with pytest.raises(UserError, match="listed twice"):
        split(images, pd.concat([drawn, drawn.iloc[:1].assign(fold=2)]), 0)
