import albumentations as A
import numpy as np
import pytest
from conftest import refused, tiny_args

from maskfold.config.experiment import Data
from maskfold.errors import UserError
from maskfold.loading.augmentations import PRESETS, pipeline
from maskfold.loading.transforms import make_train_transform, sample_seeds

SEEDS = sample_seeds(1, 1, np.arange(30), np.zeros(30, int))


def photo():
    return np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_return_photos_of_the_input_size(preset):
    transform = make_train_transform(Data(image_size=(32, 24), augment=preset))
    seen = [transform(photo(), seed) for seed in SEEDS]
    assert all(image.shape == (32, 24, 3) and image.dtype == np.uint8 for image in seen)
    assert len({image.tobytes() for image in seen}) > 20
    assert np.array_equal(transform(photo(), SEEDS[4]), seen[4])


@pytest.mark.parametrize("preset", PRESETS)
def test_the_crop_comes_first_and_geometry_before_photometry(preset):
    def kinds(transforms):
        for each in transforms:
            if isinstance(each, A.BaseCompose):
                yield from kinds(each.transforms)
            else:
                yield isinstance(each, A.DualTransform) and not isinstance(each, A.CoarseDropout)

    transforms = pipeline(Data(image_size=(32, 32), augment=preset))
    assert isinstance(transforms[0], A.RandomResizedCrop)
    geometric = list(kinds(transforms))
    assert geometric == sorted(geometric, reverse=True)


def test_randaugment_applies_randaugment_ops_operations():
    """More operations, or a larger magnitude, change the photo more."""

    def change(ops, magnitude):
        data = Data(image_size=(64, 64), augment="randaugment", randaugment_ops=ops, randaugment_magnitude=magnitude)
        operations = pipeline(data)[-1]
        assert operations.n == ops
        image = np.random.default_rng(0).integers(60, 200, (64, 64, 3), dtype=np.uint8)
        compose = A.Compose([operations], seed=3)
        return np.mean([np.abs(compose(image=image)["image"].astype(int) - image).mean() for _ in range(40)])

    assert change(1, 0.1) < change(1, 1.0)
    assert change(1, 0.5) < change(6, 0.5)


def test_a_configured_list_is_applied():
    entries = [{"HorizontalFlip": {"p": 1.0}}, {"OneOf": {"transforms": [{"InvertImg": {"p": 1}}], "p": 1}}]
    transform = make_train_transform(Data(image_size=(40, 30), augment=entries))
    np.testing.assert_array_equal(transform(photo(), (1, 2)), 255 - photo()[:, ::-1])
    # The result is resized to the input size.
    transform = make_train_transform(Data(image_size=(32, 24), augment=["HorizontalFlip"]))
    assert transform(photo(), (1, 2)).shape == (32, 24, 3)


@pytest.mark.parametrize(
    "entries",
    [
        [{"Resize": {"height": 200, "width": 200}}, {"RandomCrop": {"height": 150, "width": 150}}],
        [{"PadIfNeeded": {"min_height": 90, "min_width": 90}}, {"CenterCrop": {"height": 80, "width": 80}}],
        ["ToFloat", {"FromFloat": {"dtype": "uint8"}}],
        [{"SomeOf": {"transforms": ["Blur", {"OneOf": {"transforms": ["InvertImg", "HorizontalFlip"]}}], "n": 1}}],
    ],
)
def test_each_transform_is_tested_on_the_output_of_the_one_before(entries):
    transform = make_train_transform(Data(image_size=(32, 24), augment=entries))
    assert transform(photo(), (1, 2)).shape == (32, 24, 3)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "empty"),
        ([{"HorizontalFlop": {}}], r"augment\[0\].*HorizontalFlop.*HorizontalFlip"),
        ([{"HorizontalFlip": {"prob": 0.5}}], r"augment\[0\].*prob"),
        ([{"Blur": {}}, {"OneOf": {"transforms": [{"Blurr": {}}]}}], r"augment\[1\]\.OneOf\[0\].*Blurr"),
        ([{"OneOf": {}}], "needs a list"),
        ([{"RandomCrop": {"height": 500, "width": 500}}], "fails on a photo"),
        ([{"Normalize": {}}], "normalises"),
        ([{"HorizontalFlip": {"p": "often"}}], r"augment\[0\]"),
        ([3], "a name or"),
        ([{"HorizontalFlip": {}, "Blur": {}}], "a name or"),
        ([{"Compose": 4}], "a name or"),
        (["cv2"], "albumentations has no cv2"),
        ([{"Normalize": {"p": 0.1}}], "normalises"),
        ([{"RandomCrop": {"height": 500, "width": 500, "p": 0.1}}], "RandomCrop fails on a photo"),
        ([{"OneOf": {"transforms": [{"ToFloat": {}}, {"Blur": {}}], "p": 0.1}}], "normalises"),
        ([{"OneOf": {"transforms": [{"Blur": {"p": 0}}]}}], r"augment\[0\]"),
        ([{"OneOf": {"transforms": ["Blur", {"OneOf": {"transforms": ["Blur", "ToFloat"]}}]}}], "normalises"),
        (["DualTransform"], "DualTransform"),
        (["MaskDropout"], "MaskDropout"),
    ],
)
def test_an_invalid_list_is_an_error(entries, words):
    with pytest.raises(UserError, match=words):
        make_train_transform(Data(image_size=(32, 24), augment=entries))


def test_a_list_in_a_configuration_file(script, synthetic, tmp_path):
    """A valid list is trained with; an invalid one is an error before the run folder is written."""
    file = tmp_path / "own.yaml"
    head = "data: {folds: 2, image_size: [32, 32], augment: "
    tail = "}\nmodel: {backbone: test_convnext}\noptim: {epochs: 1, warmup_epochs: 0, batch_size: 16}\n"
    file.write_text(head + "[{HorizontalFlip: {p: 1.0}}, RandomBrightnessContrast]" + tail)
    common = ("--data.root", synthetic, "--run.wandb", "disabled", "--folds", 0)
    assert script("train", file, *common).code == 0
    assert script("train", file, *common).code == 0
    file.write_text(head + "[{HorizontalFlip: {often: 1.0}}]" + tail)
    refused(script("train", file, *common, "--name", "other"), "data.augment[0]", "often")
    assert not (tmp_path / "runs" / "other").exists()
    refused(
        script("train", *tiny_args(synthetic, "--data.augment", "storng")), "--data.augment", "storng", "randaugment"
    )
