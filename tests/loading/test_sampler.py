import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskfold.config.experiment import Config, Data, Mix
from maskfold.errors import UserError
from maskfold.labels import is_old
from maskfold.loading.sampler import Partners, PhotoBatchSampler, sample_balanced, train_batch_sampler

# Photos per class, imbalanced like the competition's.
COUNTS = np.array([274, 205, 41, 366, 408, 54, 55, 41, 8, 73, 82, 11, 55, 41, 8, 73, 82, 11])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(18), COUNTS))


def epoch_rows(batches, epoch):
    batches.set_epoch(epoch)
    return np.array([row for batch in batches for _, row, _ in batch])


def test_balanced_sampling_gives_equal_classes_over_50_epochs():
    """Classes differ by at most one photo per epoch, and photos of a class by at most one visit; all photos occur."""
    rows = np.arange(len(LABELS))
    batches = train_batch_sampler(Config(data=Data(sampling="balanced")), rows, LABELS)
    epochs = [epoch_rows(batches, epoch) for epoch in range(1, 51)]
    for sampled in epochs:
        assert len(sampled) == len(rows)
        counts = np.bincount(LABELS[sampled], minlength=18)
        assert counts.max() - counts.min() <= 1
        visits = np.bincount(sampled, minlength=len(rows))
        for label in range(18):
            class_visits = visits[label == LABELS]
            assert class_visits.max() - class_visits.min() <= 1
    shares = np.bincount(LABELS[np.concatenate(epochs)], minlength=18) / sum(map(len, epochs))
    np.testing.assert_allclose(shares, 1 / 18, rtol=0.01)
    assert set(np.concatenate(epochs)) == set(rows)
    # Another sample each epoch, the same one for the same epoch.
    assert epochs[0].tolist() != epochs[1].tolist()
    assert epoch_rows(batches, 1).tolist() == epochs[0].tolist()


def test_a_repeated_photo_has_another_visit_number():
    batches = train_batch_sampler(
        Config(data=Data(sampling="balanced"), mix=Mix(name="mixup")), np.arange(1888), LABELS
    )
    batches.set_epoch(1)
    keys = [key for batch in batches for key in batch]
    assert len(keys) == 2 * 1888
    assert len({(row, visit) for _, row, visit in keys}) == len(keys)
    assert len({row for _, row, _ in keys}) < len(keys)


@given(st.lists(st.integers(0, 17), min_size=1, max_size=60), st.integers(0, 99))
def test_balanced_sampling_keeps_the_number_of_rows(labels, seed):
    labels = np.array(labels)
    rows = np.flatnonzero(np.arange(len(labels)) % 3 != 1) if len(labels) > 2 else np.arange(len(labels))
    sampled = sample_balanced(labels, rows, np.random.default_rng(seed))
    assert len(sampled) == len(rows)
    assert set(sampled) <= set(rows)


@pytest.mark.parametrize("kind", ["any", "same", "old"])
def test_partners_are_of_the_configured_kind(kind):
    rows = np.arange(0, len(LABELS), 2)
    partners = Partners(Mix(name="mixup", partner=kind), rows, LABELS)
    rng, seen = np.random.default_rng(1), []
    for _ in range(200):
        batch = rng.choice(rows, 32)
        chosen = partners(rng, batch)
        assert set(chosen) <= set(rows)
        if kind == "same":
            assert (LABELS[chosen] == LABELS[batch]).all()
        if kind == "old":
            assert is_old(LABELS[chosen]).all()
        seen.append(chosen)
    # Every photo of the kind can be chosen, with equal probability.
    candidates = rows[is_old(LABELS[rows])] if kind == "old" else rows
    assert len(set(np.concatenate(seen))) > 0.9 * len(candidates)
    if kind == "any":
        shares = np.bincount(LABELS[np.concatenate(seen)], minlength=18) / 6400
        np.testing.assert_allclose(shares, np.bincount(LABELS[rows], minlength=18) / len(rows), atol=0.02)


def test_a_share_of_batches_stays_unmixed():
    rows = np.arange(1600)
    batches = PhotoBatchSampler(rows, 4, True, partners=Partners(Mix(name="mixup", clean=0.25), rows, LABELS))
    batches.set_epoch(1)
    sizes = [len(batch) for batch in batches]
    assert set(sizes) == {4, 8}
    assert sizes.count(4) / 400 == pytest.approx(0.25, abs=0.07)


def test_no_old_partner_is_an_error():
    with pytest.raises(UserError, match=r"mix\.partner old"):
        Partners(Mix(name="half_cutmix", partner="old"), np.arange(3), np.array([0, 1, 4]))


@given(n=st.integers(1, 40), size=st.integers(1, 12), world_size=st.integers(1, 4))
def test_processes_share_partners_too(n, size, world_size):
    """The partner of a photo does not depend on the number of processes."""
    labels = np.arange(n) % 18

    def pairs(batch):
        half = len(batch) // 2
        return [(own[1], other[1]) for own, other in zip(batch[:half], batch[half:], strict=True) if own[1] >= 0]

    whole, *shares = (
        PhotoBatchSampler(
            np.arange(n), size, True, 1, rank, count, None, Partners(Mix(name="mixup"), np.arange(n), labels)
        )
        for rank, count in [(0, 1)] + [(rank, world_size) for rank in range(world_size)]
    )
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(pairs(batch)) == sorted(pair for part in parts for pair in pairs(part))
