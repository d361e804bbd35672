import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskfold.config.experiment import Config, Data, Mix
from maskfold.errors import UserError
from maskfold.labels import is_old
from maskfold.loading.sampler import Partners, PhotoBatchSampler, sample_balanced, train_batch_sampler

# 18 classes as unlike as the competition's.
COUNTS = np.array([274, 205, 41, 366, 408, 54, 55, 41, 8, 73, 82, 11, 55, 41, 8, 73, 82, 11])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(18), COUNTS))


def drawn(batches, epoch):
    batches.set_epoch(epoch)
    return np.array([row for batch in batches for _, row, _ in batch])


def test_balanced_classes_have_their_share_over_50_epochs():
    """Each class within one photo an epoch of n / 18; all photos come, and none of a class before its others have."""
    rows = np.arange(len(LABELS))
    batches = train_batch_sampler(Config(data=Data(sampling="balanced")), rows, LABELS)
    epochs = [drawn(batches, epoch) for epoch in range(1, 51)]
    for found in epochs:
        assert len(found) == len(rows)
        counts = np.bincount(LABELS[found], minlength=18)
        assert counts.max() - counts.min() <= 1
        times = np.bincount(found, minlength=len(rows))
        for label in range(18):
            mine = times[label == LABELS]
            assert mine.max() - mine.min() <= 1
    shares = np.bincount(LABELS[np.concatenate(epochs)], minlength=18) / sum(map(len, epochs))
    np.testing.assert_allclose(shares, 1 / 18, rtol=0.01)
    assert set(np.concatenate(epochs)) == set(rows)
    # Reseeded: another order and choice each epoch, the same for the same epoch.
    assert epochs[0].tolist() != epochs[1].tolist()
    assert drawn(batches, 1).tolist() == epochs[0].tolist()


def test_a_photo_drawn_twice_is_augmented_twice():
    batches = train_batch_sampler(
        Config(data=Data(sampling="balanced"), mix=Mix(name="mixup")), np.arange(1888), LABELS
    )
    batches.set_epoch(1)
    keys = [key for batch in batches for key in batch]
    assert len(keys) == 2 * 1888
    assert len({(row, visit) for _, row, visit in keys}) == len(keys)
    assert len({row for _, row, _ in keys}) < len(keys)


@given(st.lists(st.integers(0, 17), min_size=1, max_size=60), st.integers(0, 99))
def test_balanced_keeps_the_length_and_the_rows(labels, seed):
    labels = np.array(labels)
    rows = np.flatnonzero(np.arange(len(labels)) % 3 != 1) if len(labels) > 2 else np.arange(len(labels))
    found = sample_balanced(labels, rows, np.random.default_rng(seed))
    assert len(found) == len(rows)
    assert set(found) <= set(rows)


@pytest.mark.parametrize("kind", ["any", "same", "old"])
def test_partners_are_of_the_kind_asked_for(kind):
    rows = np.arange(0, len(LABELS), 2)
    partners = Partners(Mix(name="mixup", partner=kind), rows, LABELS)
    rng, seen = np.random.default_rng(1), []
    for _ in range(200):
        batch = rng.choice(rows, 32)
        found = partners(rng, batch)
        assert set(found) <= set(rows)
        if kind == "same":
            assert (LABELS[found] == LABELS[batch]).all()
        if kind == "old":
            assert is_old(LABELS[found]).all()
        seen.append(found)
    # Every photo of the kind may come, each as often as any other.
    wanted = rows[is_old(LABELS[rows])] if kind == "old" else rows
    assert len(set(np.concatenate(seen))) > 0.9 * len(wanted)
    if kind == "any":
        shares = np.bincount(LABELS[np.concatenate(seen)], minlength=18) / 6400
        np.testing.assert_allclose(shares, np.bincount(LABELS[rows], minlength=18) / len(rows), atol=0.02)


def test_a_share_of_batches_stays_clean():
    rows = np.arange(1600)
    batches = PhotoBatchSampler(rows, 4, True, partners=Partners(Mix(name="mixup", clean=0.25), rows, LABELS))
    batches.set_epoch(1)
    sizes = [len(batch) for batch in batches]
    assert set(sizes) == {4, 8}
    assert sizes.count(4) / 400 == pytest.approx(0.25, abs=0.07)


def test_no_old_partner_is_told():
    with pytest.raises(UserError, match=r"mix\.partner old"):
        Partners(Mix(name="half_cutmix", partner="old"), np.arange(3), np.array([0, 1, 4]))


@given(n=st.integers(1, 40), size=st.integers(1, 12), world_size=st.integers(1, 4))
def test_processes_share_partners_too(n, size, world_size):
    """The partner of a photo is the same however many processes there are."""
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
