"""Store, transforms, dataset and loader: the same preprocessing everywhere, the same augmentation for any num_workers."""

import io
import os
import pickle
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskfold.cache_folder import CacheFolder
from maskfold.config.experiment import Config, Data
from maskfold.data.decode import photo_fault, read_photo
from maskfold.data.prepared_folder import PrepareOptions, prepare
from maskfold.data.raw_layout import find_layout
from maskfold.errors import UserError
from maskfold.loading.crops import crop_and_resize, reduction, store_size
from maskfold.loading.dataset import NO_LABEL, PhotoDataset
from maskfold.loading.feature_cache import Features
from maskfold.loading.photo_loader import PhotoLoader
from maskfold.loading.sampler import PhotoBatchSampler
from maskfold.loading.store import open_store
from maskfold.loading.transforms import EvalTransform, make_train_transform, sample_seeds
from maskfold.models.classifier import build_classifier
from maskfold.models.device import Hardware
from maskfold.places import Places


@pytest.fixture(scope="module")
def prepared(synthetic, tmp_path_factory):
    return prepare(find_layout(synthetic), tmp_path_factory.mktemp("prepared"), PrepareOptions(2, 0))


def data_config(**keys) -> Data:
    return Config.model_validate({"data": {"image_size": [32, 24], **keys}}).data


def test_the_store_contains_the_crop_of_each_photo(prepared):
    data = data_config()
    store = open_store(prepared, prepared.images, data)
    assert len(store) == len(prepared.images)
    for row in (0, 40, 83):
        photo = read_photo(prepared.photo_paths(prepared.images)[row], lambda size: reduction(size, data))
        np.testing.assert_array_equal(store[row], crop_and_resize(photo.image, data, reduced=photo.reduced))
    assert store[0].shape == (40, 30, 3)
    assert len(pickle.dumps(store)) < 1000


def test_colours_are_rgb(tmp_path):
    red = np.zeros((512, 384, 3), np.uint8)
    red[..., 0] = 255
    cv2.imwrite(str(tmp_path / "a.png"), red[..., ::-1])
    assert read_photo(tmp_path / "a.png")[0][0, 0].tolist() == [255, 0, 0]


def test_centre_crop():
    photo = np.zeros((512, 384, 3), np.uint8)
    photo[96:416, 64:320] = 200
    data = data_config(crop="center", crop_size=[320, 256])
    assert (crop_and_resize(photo, data) == 200).all()
    assert (crop_and_resize(photo, data_config(crop="none"))[0] == 0).all()
    small = np.full((100, 80, 3), 9, np.uint8)
    assert crop_and_resize(small, data).shape == (*store_size(data), 3)


def test_the_store_is_not_larger_than_the_crop_unless_the_input_is():
    assert store_size(data_config(image_size=[128, 96])) == (160, 120)
    assert store_size(data_config(image_size=[380, 380], crop_size=[384, 384])) == (384, 384)
    assert store_size(data_config(image_size=[384, 384], crop_size=[320, 256])) == (384, 384)


def test_the_store_is_built_once_per_preprocessing(prepared):
    first = open_store(prepared, prepared.images, data_config())
    stamp = first.path.stat().st_mtime_ns
    again = open_store(prepared, prepared.images, data_config(augment="strong"))
    assert (again.path, again.path.stat().st_mtime_ns) == (first.path, stamp)
    others = [data_config(crop="none"), data_config(crop_size=[320, 256]), data_config(image_size=[48, 32])]
    assert len({first.path, *(open_store(prepared, prepared.images, data).path for data in others)}) == 4


def test_the_decode_is_part_of_the_store(prepared):
    """Photos of 384x512 for a store of 40x30: a reduced decode gives other pixels, and a store of its own."""
    full, reduced = (data_config(decode=decode) for decode in ("full", "reduced"))
    stores = [open_store(prepared, prepared.images, data) for data in (full, reduced)]
    path = prepared.photo_paths(prepared.images)[3]
    whole = crop_and_resize(read_photo(path).image, full)
    np.testing.assert_array_equal(stores[0][3], whole)
    assert not np.array_equal(stores[1][3], whole)
    assert np.abs(stores[1][3].astype(int) - whole).mean() < 6


def test_full_disks_are_an_error_before_building(prepared, monkeypatch):
    usage = shutil.disk_usage(".")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    data = data_config(image_size=[40, 40])
    with pytest.raises(UserError, match="free space"):
        open_store(prepared, prepared.images, data)


def test_a_damaged_photo_leaves_no_store(raw, tmp_path):
    fresh = prepare(find_layout(raw), tmp_path / "p", PrepareOptions(2, 0))
    victim = fresh.photo_paths(fresh.images)[50]
    victim.write_bytes(victim.read_bytes()[:3000])
    with pytest.raises(UserError, match="truncated"):
        open_store(fresh, fresh.images, data_config())
    assert [path.name for path in (tmp_path / "p" / "store").iterdir()] == [".lock"]


def test_a_photo_changed_since_it_was_prepared_is_an_error(raw, tmp_path):
    """A valid photo is replaced by another one, in the training set and in the eval set."""
    fresh = prepare(find_layout(raw), tmp_path / "p", PrepareOptions(2, 0))
    for table in (fresh.images, fresh.evaluation):
        paths = fresh.photo_paths(table)
        before = paths[9].read_bytes()
        paths[9].write_bytes(paths[8].read_bytes())
        with pytest.raises(UserError, match="changed since they were prepared"):
            open_store(fresh, table, data_config())
        paths[9].write_bytes(before)
        assert len(open_store(fresh, table, data_config())) == len(table)


def batches(prepared, workers: int, epoch: int, augment: str = "strong"):
    data = data_config(augment=augment)
    store = open_store(prepared, prepared.images, data)
    dataset = PhotoDataset(store, prepared.images.label.to_numpy(), make_train_transform(data), seed=5)
    loader = PhotoLoader(dataset, PhotoBatchSampler(np.arange(20), 8, shuffle=True, seed=5), workers=workers, pin=False)
    loader.batch_sampler.set_epoch(epoch)
    return [torch.cat(parts) for parts in zip(*loader, strict=True)]


@pytest.mark.parametrize("augment", ["light", "strong"])
def test_augmentation_does_not_depend_on_the_number_of_workers(prepared, augment):
    """Equal with 0, 1 and 3 workers; different in another epoch."""
    images, labels, rows = batches(prepared, 0, 1, augment)
    assert images.dtype == torch.uint8
    assert images.shape == (20, 3, 32, 24)
    assert sorted(rows.tolist()) == list(range(20))
    assert labels.tolist() == prepared.images.label.iloc[rows.numpy()].tolist()
    for workers in (1, 3):
        other = batches(prepared, workers, 1, augment)
        assert all(torch.equal(a, b) for a, b in zip((images, labels, rows), other, strict=True))
    later, _, later_rows = batches(prepared, 0, 2, augment)
    assert rows.tolist() != later_rows.tolist()
    by_row = {row: image for row, image in zip(rows.tolist(), images, strict=True)}
    changed = [not torch.equal(by_row[row], image) for row, image in zip(later_rows.tolist(), later, strict=True)]
    assert all(changed)


def test_persistent_workers_use_the_current_epoch(prepared):
    data = data_config(augment="light")
    dataset = PhotoDataset(open_store(prepared, prepared.images, data), None, make_train_transform(data), seed=5)
    loader = PhotoLoader(dataset, PhotoBatchSampler(np.arange(6), 6, shuffle=False), workers=1, pin=False)
    seen = []
    for epoch in (1, 2, 1):
        loader.batch_sampler.set_epoch(epoch)
        seen.append(next(iter(loader))[0])
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


def test_a_mistyped_augmentation_argument_is_an_error(monkeypatch):
    """strict=True is passed; without it albumentations would only warn."""
    import albumentations as A

    from maskfold.loading import augmentations

    monkeypatch.setattr(augmentations, "pipeline", lambda data: [A.HorizontalFlip(prob=0.5)])
    with pytest.raises(ValueError, match="prob"):
        make_train_transform(data_config())


def test_validation_oof_and_eval_preprocess_a_file_to_the_identical_tensor(raw, tmp_path, monkeypatch):
    """A photo is in the training and the eval set; the model's normalised inputs are recorded on each path."""
    import shutil

    from maskfold.inference.cached_predictions import predict_runs
    from maskfold.models.classifier import Classifier
    from maskfold.training.fit import fit_run

    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "runs"))
    table = pd.read_csv(raw / "train" / "train.csv", dtype=str)
    photo = next((raw / "train" / "images" / table.path[0]).glob("mask3.*"))
    name = "0" * 40 + ".jpg"
    shutil.copy(photo, raw / "eval" / "images" / name)
    info = pd.read_csv(raw / "eval" / "info.csv")
    pd.concat([info, pd.DataFrame({"ImageID": [name], "ans": [0]})]).to_csv(raw / "eval" / "info.csv", index=False)

    inputs = []
    original = Classifier.normalise

    def spy(self, images):
        normalised = original(self, images)
        if not self.training:
            inputs.append(normalised.detach().clone())
        return normalised

    monkeypatch.setattr(Classifier, "normalise", spy)
    # Before it starts, a run shows its model blank photos, which must not be recorded here.
    monkeypatch.setattr("maskfold.training.fit.check_input_size", lambda model, config: None)
    sections = {"root": str(raw), "prepared": str(tmp_path / "p"), "folds": 2, "image_size": [32, 32]}
    keys = {"data": sections, "model": {"backbone": "test_convnext"}, "optim": {"epochs": 1, "warmup_epochs": 0}}
    run, _ = fit_run(Config.model_validate({**keys, "run": {"wandb": "disabled", "device": "cpu"}}), "view")
    from maskfold.runs.run_data import prepared_of

    prepared = prepared_of(run)
    wanted = f"{table.path[0]}/mask3"
    row = prepared.images.image_id.tolist().index(wanted)
    fold = prepared.folds.set_index("person_id").fold[table.path[0]]
    inside = np.flatnonzero(prepared.images.person_id.map(prepared.folds.set_index("person_id").fold) == fold)
    position = inside.tolist().index(row)
    # Each fold predicts its validation photos twice: after the epoch, and for oof.npz with the saved weights.
    flat = [tensor for tensor in torch.cat(inputs)]
    sizes = [int((prepared.folds.fold == k).sum()) * 7 for k in (0, 1)]
    start = 0 if fold == 0 else 2 * sizes[0]
    validation, oof = flat[start + position], flat[start + sizes[fold] + position]
    inputs.clear()
    predict_runs([run], [prepared], ("none",))
    # Both models predict the eval photos, which fit into one batch; then each predicts its fold's photos.
    flat, photos = list(torch.cat(inputs)), len(prepared.evaluation)
    assert photos < run.config.optim.batch_size
    again = flat[2 * photos + (0 if fold == 0 else sizes[0]) + position]
    eval_row = prepared.evaluation.image_id.tolist().index(name)
    evaluation = flat[eval_row]
    assert torch.equal(evaluation, flat[photos + eval_row])
    assert validation.abs().sum() > 0
    for other in (oof, again, evaluation):
        assert torch.equal(validation, other)


def test_photo_fault_finds_a_file_cut_anywhere(synthetic):
    whole = next((synthetic / "eval" / "images").glob("[0-9a-f]*.jpg")).read_bytes()
    assert photo_fault(whole) is None
    assert photo_fault(whole + b"trailing junk") is None
    # The last two bytes are the end marker: without them no pixel is missing.
    for keep in np.linspace(1, len(whole) - 3, 40).astype(int):
        assert photo_fault(whole[:keep]) is not None


def test_eval_transform_is_deterministic():
    image = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    view = EvalTransform(data_config())
    np.testing.assert_array_equal(view(image), view(image))
    assert view(image).shape == (32, 24, 3)
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"


@given(n=st.integers(1, 40), size=st.integers(1, 12), world_size=st.integers(1, 4), epoch=st.integers(0, 3))
def test_processes_share_each_batch(n, size, world_size, epoch):
    """The shares of all processes together are the whole batch; a share that would be empty is one row without label."""
    whole = PhotoBatchSampler(np.arange(n), size, shuffle=True, seed=1)
    shares = [
        PhotoBatchSampler(np.arange(n), size, shuffle=True, seed=1, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for batches in (whole, *shares):
        batches.set_epoch(epoch)
    assert sorted(row for batch in whole for _, row, _ in batch) == list(range(n))
    for number, batch, *parts in zip(range(len(whole)), whole, *shares, strict=True):
        assert len(batch) == whole.size(number)
        assert all(parts)
        assert sorted(key for part in parts for key in part if key[1] >= 0) == sorted(batch)


def test_a_pass_can_begin_with_a_later_batch():
    batches = PhotoBatchSampler(np.arange(10), 3, shuffle=True, seed=1)
    batches.set_epoch(2)
    whole = list(batches)
    batches.set_epoch(2, first=2)
    assert list(batches) == whole[2:]


def test_a_row_without_label_is_the_same_photo(prepared):
    data = data_config(augment="light")
    store, labels = open_store(prepared, prepared.images, data), prepared.images.label.to_numpy()
    dataset = PhotoDataset(store, labels, make_train_transform(data), seed=5)
    (image, label, row), (bare, none, again) = dataset[1, 7, 0], dataset[1, ~7, 0]
    assert torch.equal(image, bare)
    assert (label, row) == (labels[7], 7)
    assert (none, again) == (NO_LABEL, 7)


@given(
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 500),
    rows=st.lists(st.integers(0, 30_000), min_size=1, max_size=50),
)
def test_sample_seeds_are_distinct_and_independent_of_the_batch(seed, epoch, rows):
    """It depends on seed, epoch, row and visit alone, not on the other rows of the batch."""
    first = np.zeros(len(rows), int)
    whole = sample_seeds(seed, epoch, np.array(rows), first)
    assert whole == [sample_seeds(seed, epoch, np.array([row]), first[:1])[0] for row in rows]
    assert len(set(whole)) == len(set(rows))
    assert not set(whole) & set(sample_seeds(seed, epoch + 1, np.array(rows), first))
    assert not set(whole) & set(sample_seeds(seed + 1, epoch, np.array(rows), first))
    assert not set(whole) & set(sample_seeds(seed, epoch, np.array(rows), first + 1))


def test_random_numbers_of_samples_are_uniform_and_uncorrelated():
    """The first random numbers of neighbouring rows are uniform and uncorrelated."""
    transform = make_train_transform(data_config(augment="light"))
    numbers = []
    for seed in sample_seeds(3, 1, np.arange(4000), np.zeros(4000, int)):
        transform(np.zeros((40, 30, 3), np.uint8), seed)
        # The next random number of each of the two generators that albumentations uses.
        numbers.append((transform.compose.py_random.random(), transform.compose.random_generator.random()))
    for column in np.array(numbers).T:
        assert abs(column.mean() - 0.5) < 0.02
        assert (np.abs(np.histogram(column, 10, (0, 1))[0] - 400) < 100).all()
        assert abs(np.corrcoef(column[1:], column[:-1])[0, 1]) < 0.06


def damaged_arrays():
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"
    for shape in ("(99999999999999999999, 3)", "(84, 40, 30, 3", "'''", "(1,\n (", "(" * 300):
        text = (header % shape).encode()
        yield b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text
    for array in (
        np.zeros((84, 40, 30)),
        np.zeros((84, 40, 30), np.uint8),
        np.zeros((83, 40, 30, 3), np.uint8),
        np.array(1),
    ):
        content = io.BytesIO()
        np.save(content, array)
        yield content.getvalue()


def test_a_damaged_store_is_built_again(prepared, capsys):
    data = data_config()
    path = open_store(prepared, prepared.images, data).path
    before = path.read_bytes()
    try:
        for content in damaged_arrays():
            path.unlink()
            path.write_bytes(content)
            _ = open_store(replace(prepared, places=Places()), prepared.images, data)[0]
            assert path.read_bytes() == before
            assert capsys.readouterr().err.count(f"note: {path}: not a readable store") == 1
    finally:
        path.write_bytes(before)


def test_damaged_features_are_computed_again(prepared, capsys):
    config = Config.model_validate({"model": {"backbone": "test_resnet"}, "data": {"image_size": [32, 24]}})
    store, hardware = open_store(prepared, prepared.images, config.data), Hardware(torch.device("cpu"), torch.float32)

    def view():
        torch.manual_seed(0)
        return Features(build_classifier(config), [store], config.data, 42, 0).view("none", hardware)

    before = view()
    np.testing.assert_array_equal(view(), before)
    [path] = store.path.parent.glob("features-*.npy")
    for content in damaged_arrays():
        path.write_bytes(content)
        store.cache = CacheFolder()
        capsys.readouterr()
        np.testing.assert_array_equal(view(), before)
        assert capsys.readouterr().err.count(f"note: {path}: the features can't be read") == 1
        np.testing.assert_array_equal(np.load(path), before)
