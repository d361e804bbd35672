import socket

import pytest
import timm
import torch
from safetensors.torch import save_file

from maskfold.config.experiment import Config, Data, Model
from maskfold.errors import UserError
from maskfold.models.backbone import build_backbone
from maskfold.models.classifier import build_classifier

DATA = Data(image_size=(32, 32))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file as on timm's hub: all tensors of the model, including its classifier of 1000 classes."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("가중치 weights") / "model.safetensors"
    save_file({key: value.contiguous() for key, value in timm.create_model("test_convnext").state_dict().items()}, path)
    return path


def build(**keys):
    return build_backbone(Model(**{"backbone": "test_convnext", **keys}), DATA)


def test_weights_are_loaded_from_a_file(weights):
    torch.manual_seed(7)
    backbone = build(weights=weights)
    for name, tensor in (
        timm.create_model("test_convnext", pretrained=True, pretrained_cfg_overlay={"file": weights}, num_classes=0)
        .state_dict()
        .items()
    ):
        assert torch.equal(backbone.state_dict()[name], tensor)


def test_a_file_overrides_pretrained_and_needs_no_network(weights, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("used the network"))
    build(weights=weights, pretrained=True)


@pytest.mark.parametrize("name", ["resnet19", "efficientnet_b44", "swin_larg"])
def test_an_unknown_backbone_suggests_the_nearest(name):
    with pytest.raises(UserError, match=rf"model.backbone: timm has no {name}; did you mean .*{name[:5]}"):
        build(backbone=name)


def test_missing_or_damaged_weights_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"model.weights: .*no such file"):
        build(weights=tmp_path / "gone.safetensors")
    for content in (b"", b"PK\x03\x04 a pickle", b"\xff" * 4000):
        (tmp_path / "bad.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=r"model.weights: .*not a readable safetensors"):
            build(weights=tmp_path / "bad.safetensors")


def test_weights_of_another_model_are_an_error_with_the_number_of_fitting_tensors(weights):
    with pytest.raises(UserError, match=r"does not fit test_resnet: it contains 0 of the \d+ tensors"):
        build(backbone="test_resnet", weights=weights)


def test_weights_of_a_deeper_model_are_an_error(tmp_path):
    """Every tensor of resnet18 is also in a resnet34's file, with the same name and shape."""
    path = tmp_path / "resnet34.safetensors"
    save_file({key: value.contiguous() for key, value in timm.create_model("resnet34").state_dict().items()}, path)
    own = len(timm.create_model("resnet18", num_classes=0).state_dict())
    with pytest.raises(UserError, match=rf"contains {own} of the {own} tensors of the model, and \d+ tensors"):
        build(backbone="resnet18", weights=path)


def test_pretrained_offline_is_an_error_that_names_both_fixes(monkeypatch):
    lookups = []

    def no_name(*host):
        lookups.append(host)
        raise socket.gaierror("Name or service not known")

    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    monkeypatch.setenv("HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(UserError, match=r"model\.pretrained.*--model\.weights.*--model\.pretrained false"):
        build(pretrained=True)
    # No retries: they would take most of a minute.
    assert len(lookups) == 1


def test_pretrained_calls_timm_create_model(monkeypatch):
    call = {}
    original = timm.create_model

    def spy(name, pretrained=False, **options):
        call.update(name=name, pretrained=pretrained)
        return original(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", spy)
    build(pretrained=True)
    assert call == {"name": "test_convnext", "pretrained": True}


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "resnet18"])
def test_normalisation_uses_the_backbones_mean_and_std(name):
    model = build_classifier(Config(model=Model(backbone=name), data=DATA)).eval()
    cfg = timm.create_model(name).pretrained_cfg
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    expected = (image.float() / 255 - torch.tensor(cfg["mean"]).view(3, 1, 1)) / torch.tensor(cfg["std"]).view(3, 1, 1)
    torch.testing.assert_close(model.normalise(image), expected)
    out = model(image)
    assert out.shape == (2, 18)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.exp().sum(1), torch.ones(2))


def test_position_embeddings_of_another_input_size_are_resized(tmp_path):
    torch.manual_seed(1)
    whole = timm.create_model("test_vit").state_dict()
    save_file({key: value.contiguous() for key, value in whole.items()}, tmp_path / "vit.safetensors")
    loaded = build_backbone(Model(backbone="test_vit", weights=tmp_path / "vit.safetensors"), DATA).state_dict()
    assert loaded["pos_embed"].shape != whole["pos_embed"].shape
    for name in loaded.keys() - {"pos_embed"}:
        assert torch.equal(loaded[name], whole[name]), name


def test_a_model_of_fixed_size_is_built_for_the_input_size():
    model = build_classifier(Config(model=Model(backbone="test_vit"), data=DATA)).eval()
    assert model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 18)


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "mobilenetv3_small_050", "lcnet_050"])
def test_heads_fit_models_with_a_hidden_layer_before_the_classifier(name):
    model = build_classifier(Config(model=Model(backbone=name), data=DATA)).eval()
    assert model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 18)


def test_dropout_is_on_in_training_only():
    model = build_classifier(Config(model=Model(backbone="test_convnext", drop_rate=0.5), data=DATA))
    image = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    model.train()
    assert not torch.equal(model(image), model(image))
    model.eval()
    assert torch.equal(model(image), model(image))
