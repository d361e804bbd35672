import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskfold.errors import UserError
from maskfold.probabilities import Predictions, join, load_predictions, mean


def some(ids, seed=0, **fields):
    probs = np.random.default_rng(seed).dirichlet(np.ones(18), len(ids)).astype(np.float32)
    return Predictions(np.array(ids), probs, **fields)


def test_saving_and_loading_keeps_predictions(tmp_path):
    ids = ["사람/normal", "b/mask1"]
    before = some(ids, label=np.array([3, 4]), fold=np.array([0, 1]), person_id=np.array(["사람", "b"], dtype=object))
    before.save(tmp_path / "oof.npz")
    after = load_predictions(tmp_path / "oof.npz", out_of_fold=True)
    assert after.image_id.tolist() == ids
    assert after.person_id.dtype.kind == "U"
    np.testing.assert_array_equal(after.probs, before.probs)
    np.testing.assert_array_equal(after.label, [3, 4])


def by_fold(count, folds=2, seed=3):
    return np.random.default_rng(seed).dirichlet(np.ones(18), (folds, count)).astype(np.float32)


def test_predictions_by_fold_are_saved_and_stay_with_their_photos(tmp_path):
    before = some(["a", "b", "c"], fold_probs=by_fold(3))
    before.save(tmp_path / "eval.npz")
    after = load_predictions(tmp_path / "eval.npz")
    np.testing.assert_array_equal(after.fold_probs, before.fold_probs)
    [joined, _] = join([after, some(["c", "a"])])
    np.testing.assert_array_equal(joined.fold_probs, before.fold_probs[:, [0, 2]])
    np.testing.assert_array_equal(after.aligned(["c", "b"]).fold_probs, before.fold_probs[:, [2, 1]])
    # The mean of several runs is no longer that of these fold models.
    assert mean([after, after]).fold_probs is None


@pytest.mark.parametrize(
    "fold_probs",
    [
        by_fold(2)[0],
        by_fold(3),
        by_fold(2)[:, :, :17],
        by_fold(2)[:0],
        by_fold(2) * 1.1,
        by_fold(2) * np.nan,
        -by_fold(2),
        np.float32(1),
        np.full((2, 2, 18), "x"),
        np.zeros((2, 2, 18), complex),
    ],
)
def test_faulty_predictions_by_fold_are_refused(tmp_path, fold_probs):
    np.savez(tmp_path / "eval.npz", image_id=np.array(["a", "b"]), probs=some(["a", "b"]).probs, fold_probs=fold_probs)
    with pytest.raises(UserError, match=r"eval\.npz: .*fold_probs"):
        load_predictions(tmp_path / "eval.npz")


@given(st.permutations(range(6)))
def test_members_are_joined_by_id_in_any_order(order):
    one = some([f"p{i}" for i in range(6)], seed=1)
    other = some([f"p{i}" for i in order], seed=2)
    joined = mean([one, other])
    for row, name in enumerate(joined.image_id):
        other_row = order.index(int(name[1:]))
        np.testing.assert_allclose(joined.probs[row], (one.probs[row] + other.probs[other_row]) / 2, atol=1e-6)


def test_only_common_photos_are_joined():
    one, other = some(["a", "b", "c"], seed=1), some(["c", "a"], seed=2)
    joined = mean([one, other])
    assert joined.image_id.tolist() == ["a", "c"]
    np.testing.assert_allclose(joined.probs[0], (one.probs[0] + other.probs[1]) / 2, atol=1e-6)
    with pytest.raises(UserError, match="no photo in common"):
        mean([one, some(["z"])])


def test_different_labels_are_refused():
    one, other = (some(["a"], label=np.array([n]), fold=np.array([0]), person_id=np.array(["a"])) for n in (1, 2))
    with pytest.raises(UserError, match="different labels"):
        mean([one, other])


def test_invalid_files_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(UserError, match=r"x\.npz: not found"):
        load_predictions(path)
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"x\.npz: contains no readable"):
        load_predictions(path)
    np.savez(path, image_id=np.array(["a"], dtype=object), probs=np.ones((1, 18)) / 18)
    with pytest.raises(UserError, match=r"x\.npz: contains no readable"):
        load_predictions(path)
    for ids, probs in ((["a", "a"], np.ones((2, 18)) / 18), (["a"], np.ones((1, 18))), (["a"], np.ones((1, 17)) / 17)):
        np.savez(path, image_id=np.array(ids), probs=probs)
        with pytest.raises(UserError, match=r"x\.npz"):
            load_predictions(path)
    for ids, probs in (
        (np.array([1]), np.ones((1, 18)) / 18),
        (np.array("a"), np.ones((1, 18)) / 18),
        (np.array(["a"]), np.full((1, 18), "x")),
    ):
        np.savez(path, image_id=ids, probs=probs)
        with pytest.raises(UserError, match=r"x\.npz"):
            load_predictions(path)
    some(["a"], label=np.array([99]), fold=np.array([0]), person_id=np.array(["p"])).save(path)
    with pytest.raises(UserError, match="labels"):
        load_predictions(path, out_of_fold=True)
    some(["a"]).save(path)
    with pytest.raises(UserError, match="out-of-fold"):
        load_predictions(path, out_of_fold=True)


def oof_of(path, **changes):
    fields = {"label": np.array([0, 1]), "fold": np.array([0, 1]), "person_id": np.array(["p", "q"])} | changes
    np.savez(path, image_id=np.array(["a", "b"]), probs=np.ones((2, 18), np.float32) / 18, **fields)


@pytest.mark.parametrize(
    "changes",
    [
        {"fold": np.array([0, -1])},
        {"fold": np.array([0.0, np.nan])},
        {"fold": np.array([[0], [1]])},
        {"person_id": np.array([1, 2])},
        {"person_id": np.array(["p"])},
        {"label": np.array(3)},
        {"label": np.array([[0], [1]])},
    ],
)
def test_out_of_fold_columns_of_another_kind_are_refused(tmp_path, changes):
    oof_of(tmp_path / "oof.npz", **changes)
    with pytest.raises(UserError, match=r"oof\.npz"):
        load_predictions(tmp_path / "oof.npz", out_of_fold=True)


@pytest.mark.parametrize("code", [0xD800, 0x110000, 0xFFFFFFFF])
def test_text_that_unicode_does_not_have_is_refused(tmp_path, code):
    for name in ("image_id", "person_id", "source"):
        path, invalid = tmp_path / "oof.npz", np.array([[code], [98]], np.uint32).view("<U1").ravel()
        fields = {"label": np.array([0, 1]), "fold": np.array([0, 1]), "person_id": np.array(["p", "q"])}
        fields |= {"image_id": np.array(["a", "b"]), name: invalid}
        np.savez(path, probs=np.ones((2, 18), np.float32) / 18, **fields)
        with pytest.raises(UserError, match=r"oof\.npz: contains no readable predictions"):
            load_predictions(path, out_of_fold=True)


def test_a_file_on_a_failing_disk_is_not_called_damaged(tmp_path):
    path = tmp_path / "oof.npz"
    path.symlink_to("/proc/self/mem")
    with pytest.raises(UserError, match=r"oof\.npz: cannot be read \(Input/output error\)") as error:
        load_predictions(path)
    assert "delete" not in str(error.value)


def test_a_file_that_expands_to_more_than_memory_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "oof.npz"
    np.savez_compressed(path, image_id=np.array(["a"]), probs=np.zeros((1_000_000, 18), np.float32))
    assert path.stat().st_size < 100_000
    with pytest.raises(UserError, match=r"oof\.npz.*72,0"):
        load_predictions(path)
