import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskfold.data.catalog import with_labels
from maskfold.data.folds import largest_share_difference, make_folds, split
from maskfold.errors import UserError
from maskfold.labels import KIND_MASK, age_group
from maskfold.synthetic.demo_data import sample_people


def people_table(n: int, seed: int = 0) -> pd.DataFrame:
    people = sample_people(n, np.random.default_rng(seed))
    people["person_id"] = [f"{i:06d}" for i in range(n)]
    people["id"] = people.person_id.str.replace("000003", "000002")
    return people


def photos_of(people: pd.DataFrame) -> pd.DataFrame:
    rows = [(f"{person}/{kind}", person, kind) for person in people.person_id for kind in KIND_MASK]
    return with_labels(pd.DataFrame(rows, columns=["image_id", "person_id", "kind"]), people)


@given(n=st.integers(6, 120), folds=st.integers(2, 12), seed=st.integers(0, 2**32 - 1))
def test_every_person_is_in_one_fold_and_groups_are_spread(n, folds, seed):
    people = people_table(n, seed % 7)
    if folds > n:
        with pytest.raises(UserError, match="folds"):
            make_folds(people, folds, seed)
        return
    fold_table, warnings = make_folds(people, folds, seed)
    assert sorted(fold_table.person_id) == sorted(people.person_id)
    counts = pd.crosstab([fold_table.gender, age_group(fold_table.age)], fold_table.fold)
    for _, row in counts.iterrows():
        assert row.max() - row.min() <= 1
    large_enough = counts.sum(axis=1) >= folds
    assert (counts[large_enough] > 0).all(axis=None)
    sizes = fold_table.fold.value_counts()
    assert len(sizes) == folds
    assert sizes.max() - sizes.min() <= 1
    assert bool(warnings) == (not large_enough.all())


def test_no_person_is_in_training_and_validation():
    people = people_table(60)
    images = photos_of(people)
    fold_table, _ = make_folds(people, 5, 42)
    seen = []
    for fold in range(5):
        train, valid = split(images, fold_table, fold)
        assert not set(images.person_id.iloc[train]) & set(images.person_id.iloc[valid])
        assert len(train) + len(valid) == len(images)
        assert (images.person_id.iloc[valid].value_counts() == 7).all()
        seen.extend(valid)
    assert sorted(seen) == list(range(len(images)))


def test_class_shares_differ_by_less_than_a_tenth():
    people = people_table(2400)
    fold_table, warnings = make_folds(people, 5, 42)
    assert not warnings
    assert largest_share_difference(photos_of(people), fold_table) < 0.10


def test_folds_depend_on_the_seed_but_not_on_the_order():
    people = people_table(60)
    fold_table, _ = make_folds(people, 5, 1)
    again, _ = make_folds(people.iloc[::-1], 5, 1)
    other, _ = make_folds(people, 5, 2)
    pd.testing.assert_frame_equal(fold_table, again)
    assert (fold_table.fold != other.fold).any()


def test_people_who_are_not_in_folds_csv_are_refused():
    people = people_table(30)
    images = photos_of(people)
    fold_table, _ = make_folds(people, 3, 0)
    with pytest.raises(UserError, match="people are not those"):
        split(images, fold_table.iloc[1:], 0)
    with pytest.raises(UserError, match="listed twice"):
        split(images, pd.concat([fold_table, fold_table.iloc[:1].assign(fold=2)]), 0)
