"""A model that ignores a border of the photo is an error that suggests sizes without such a border."""

import pytest
import torch
from conftest import refused, tiny_args

from maskfold.config.experiment import Config, Data, Model
from maskfold.errors import UserError
from maskfold.models.classifier import build_classifier
from maskfold.models.input_size import check_input_size, nearest_sizes, seen_size


def build(backbone, size, **keys):
    torch.manual_seed(0)
    config = Config(model=Model(backbone=backbone, **keys), data=Data(image_size=size))
    return build_classifier(config).eval(), config


# A ViT of fixed input size, and a model of any input size whose first layer has stride 4 without padding.
@pytest.mark.parametrize(
    ("backbone", "size", "seen", "near"),
    [
        ("vit_tiny_patch16_224", (40, 32), (32, 32), [(32, 32), (48, 32)]),
        ("vit_tiny_patch16_224", (33, 79), (32, 64), [(32, 80), (48, 80), (32, 64), (48, 64)]),
        ("test_convnext", (34, 49), (32, 48), [(32, 48), (36, 48), (32, 52), (36, 52)]),
    ],
)
def test_a_border_that_is_never_seen_is_an_error_with_the_nearest_sizes(backbone, size, seen, near):
    model, config = build(backbone, size)
    assert seen_size(model, size) == seen
    sizes = nearest_sizes(model, config, seen)
    assert sorted(sizes) == sorted(near)
    assert sizes[0] == min(sizes, key=lambda one: abs(one[0] / size[0] - 1) + abs(one[1] / size[1] - 1))
    with pytest.raises(UserError, match=rf"data\.image_size.*{seen[0]}x{seen[1]}.*{sizes[0][0]} {sizes[0][1]}"):
        check_input_size(model, config)
    for good in sizes:
        check_input_size(*build(backbone, good))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "size", "seen", "near"),
    [
        # Patches of 14 pixels, and a first convolution of stride 2 without padding.
        ("vit_small_patch14_dinov2", (128, 96), (126, 84), {(126, 98), (140, 98), (126, 84), (140, 84)}),
        ("legacy_xception", (128, 97), (127, 97), {(127, 97), (129, 97)}),
    ],
)
def test_borders_that_larger_models_never_see(backbone, size, seen, near):
    model, config = build(backbone, size)
    assert seen_size(model, size) == seen
    assert set(nearest_sizes(model, config, seen)) == near


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_mambaout", "lcnet_050"])
@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_models_with_padding_see_any_size(backbone, size):
    check_input_size(*build(backbone, size))


def test_dead_units_and_a_zero_head_do_not_change_the_seen_size():
    model, config = build("test_resnet", (32, 32), head_init="zero")
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.zero_()
            module.bias.data.fill_(-1)
    check_input_size(model, config)


def test_train_checks_the_size_before_anything_is_written(script, synthetic, tmp_path):
    args = tiny_args(synthetic, "--name", "no", "--model.backbone", "test_convnext", "--data.image_size", 34, 32)
    refused(script("train", *args), "data.image_size", "32x32", "36 32")
    assert not (tmp_path / "runs").exists()


def test_a_size_at_which_the_model_fails_is_an_error_with_valid_sizes(script, synthetic):
    result = script("train", *tiny_args(synthetic, "--name", "no", "--model.backbone", "inception_v3"))
    refused(result, "data.image_size", "299 299")
    # Also for a model that itself raises an error for other sizes.
    args = tiny_args(synthetic, "--name", "no", "--model.backbone", "test_vit", "--data.image_size", 40, 32)
    refused(script("train", *args), "data.image_size", "32 32", "48 32")
