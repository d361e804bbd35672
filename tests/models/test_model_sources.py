"""Models from a folder and from the Hugging Face hub: built, trained, and used without folder and hub."""

import json
import shutil
import socket
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from conftest import refused, tiny_args
from safetensors import safe_open
from safetensors.torch import save_file
from timm.models._hub import save_for_hf

from maskfold.config.experiment import Config, Data, Model
from maskfold.errors import UserError
from maskfold.fileio import sha256
from maskfold.models.architecture import Architecture, architecture_from_metadata, architecture_to_metadata
from maskfold.models.classifier import build_classifier
from maskfold.runs.part_weights import finished_model
from maskfold.runs.run_folder import RunFolder

DATA = Data(image_size=(32, 32))


@pytest.fixture
def folder(tmp_path):
    """A model folder as timm writes it, with a mean and std that timm's own test_resnet does not have."""
    torch.manual_seed(1)
    path = tmp_path / "모델 model #1"
    model = timm.create_model("test_resnet", num_classes=5)
    save_for_hf(model, str(path), safe_serialization=True)
    config = json.loads((path / "config.json").read_text())
    config["pretrained_cfg"] |= {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.fixture
def offline(monkeypatch) -> list:
    """Make every host name unresolvable; return the list of lookups."""
    lookups = []

    def no_name(*host):
        lookups.append(host)
        raise socket.gaierror("Name or service not known")

    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return lookups


@pytest.fixture
def cached(folder, tmp_path, offline, monkeypatch):
    """The hub's cache with the folder's model as someone/net."""
    repository = tmp_path / "cache" / "models--someone--net"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    shutil.copytree(folder, repository / "snapshots" / "abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return repository


def build(name, **keys):
    return build_classifier(Config(model=Model(backbone=name, **keys), data=DATA))


def assert_loaded_from(model, folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        for name, tensor in model.backbone.state_dict().items():
            assert torch.equal(tensor, file.get_tensor(name)), name
    torch.testing.assert_close(model.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]) * 255)
    torch.testing.assert_close(model.std.flatten(), torch.tensor([0.4, 0.5, 0.6]) * 255)


def test_a_model_of_a_folder_has_its_weights_and_statistics(folder):
    assert_loaded_from(build(f"local-dir:{folder}", pretrained=True), folder)
    assert build(f"local-dir:{folder}").mean.flatten()[0] == pytest.approx(25.5)


@pytest.mark.parametrize("prefix", ["hf-hub:", "hf_hub:"])
def test_a_model_of_the_hub_is_loaded_from_its_cache(cached, folder, prefix):
    assert_loaded_from(build(f"{prefix}someone/net", pretrained=True), folder)


def test_a_run_can_be_used_without_its_model_folder(script, synthetic, folder):
    args = ["--model.backbone", f"local-dir:{folder}", "--model.pretrained", "true", "--name", "r", "--folds", 0]
    done = script("train", *tiny_args(synthetic, *args))
    assert done.code == 0, done.err
    shutil.rmtree(folder)
    run = RunFolder(Path("runs/r"))
    model = finished_model(run, run.config, "fold0", torch.device("cpu"))
    assert model.mean.flatten()[0] == pytest.approx(25.5)
    # The weights may be published, so they must not contain the path of the folder.
    with safe_open(run.weights_path("fold0"), "pt") as file:
        assert str(folder) not in file.metadata()["architecture"]
    done = script("submit", "r", "--out", "a.csv")
    assert done.code == 0, done.err


def test_a_run_can_be_used_without_the_hubs_cache(script, synthetic, cached):
    args = ["--model.backbone", "hf-hub:someone/net", "--model.pretrained", "true", "--name", "r", "--folds", 0]
    done = script("train", *tiny_args(synthetic, *args))
    assert done.code == 0, done.err
    shutil.rmtree(cached)
    done = script("submit", "r", "--out", "a.csv")
    assert done.code == 0, done.err
    # A new run needs the cache.
    result = script("train", *tiny_args(synthetic, *args, "--fresh"))
    refused(result, "model.backbone", "someone/net", "local-dir:", "--model.weights")


def test_weights_of_a_timm_model_have_no_metadata(trained):
    with safe_open(trained.run.weights_path("fold0"), "pt") as file:
        assert not file.metadata()


def test_architecture_metadata_round_trip():
    architecture = Architecture("test_vit", {"mean": [0.5] * 3, "input_size": [3, 160, 160], "url": "x"}, {"depth": 1})
    read = architecture_from_metadata(architecture_to_metadata(architecture))
    assert read == Architecture("test_vit", {"mean": [0.5] * 3, "input_size": [3, 160, 160]}, {"depth": 1})
    assert architecture_from_metadata(None) is architecture_from_metadata({"other": "1"}) is None


def test_a_model_is_built_with_the_arguments_of_its_folder(folder):
    """A model whose config.json changes its depth, at another input size."""
    model = timm.create_model("test_vit", num_classes=3, depth=2, img_size=48)
    save_for_hf(model, str(folder), model_config={"model_args": {"depth": 2, "img_size": 48}}, safe_serialization=True)
    built = build(f"local-dir:{folder}", pretrained=True).eval()
    assert len(built.backbone.blocks) == 2
    assert torch.equal(built.backbone.blocks[1].norm1.weight, model.blocks[1].norm1.weight)
    assert built(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, 18)


def test_a_folder_with_another_models_weights_is_an_error(folder):
    save_file(timm.create_model("test_resnet").state_dict() | {"layer9": torch.ones(1)}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.backbone.*does not fit test_resnet"):
        build(f"local-dir:{folder}", pretrained=True)


def test_folders_without_a_model_are_an_error(folder):
    for content in ("", "[]", "{}", '{"architecture": "resnet19"}', '{"architecture": "resnet18", "odd": 1}'):
        (folder / "config.json").write_text(content)
        with pytest.raises(UserError, match=r"model\.backbone: .*config\.json"):
            build(f"local-dir:{folder}")
    for place in (folder / "gone", folder.parent):
        with pytest.raises(UserError, match=r"model\.backbone: .*config\.json"):
            build(f"local-dir:{place}")


def test_a_folder_without_weights_is_an_error_when_pretrained(folder):
    (folder / "model.safetensors").unlink()
    build(f"local-dir:{folder}")
    with pytest.raises(UserError, match=r"model\.pretrained: .*no weights.*--model\.pretrained false"):
        build(f"local-dir:{folder}", pretrained=True)


@pytest.mark.parametrize("pretrained", [False, True])
def test_an_unreachable_hub_is_an_error_that_names_the_fixes(offline, tmp_path, monkeypatch, pretrained):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"model\.backbone: hf-hub:timm/resnet18.*local-dir:.*--model\.weights"):
        build("hf-hub:timm/resnet18.a1_in1k", pretrained=pretrained)
    # No retries: they would take most of a minute.
    assert len(offline) == 1


@pytest.mark.parametrize("name", ["timm/resnet18", "hub:timm/resnet18", "local-dir:", "hf-hub:"])
def test_a_name_that_looks_like_a_repository_or_path_suggests_the_prefixes(name):
    with pytest.raises(UserError, match=r"timm has no .*hf-hub:.*local-dir:"):
        build(name)


def test_weights_files_are_deterministic(script, synthetic, folder):
    """Writing the same weights twice gives the same bytes, metadata included."""
    args = ["--model.backbone", f"local-dir:{folder}", "--folds", 0, "--optim.epochs", 1]
    for name in ("a", "b"):
        assert script("train", *tiny_args(synthetic, *args, "--name", name)).code == 0
    assert len({sha256(RunFolder(Path("runs") / name).weights_path("fold0")) for name in ("a", "b")}) == 1


CFG = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 32, 32]}


@pytest.mark.parametrize(
    "architecture",
    [
        5,
        ["no_such_net", CFG, {}],
        [["test_convnext"], CFG, {}],
        ["test_convnext", [], {}],
        ["test_convnext", CFG, None],
        ["test_convnext", CFG, {"no_such_argument": 1}],
        ["test_convnext", CFG | {"mean": "grey"}, {}],
        ["test_convnext", CFG | {"std": [0, 0, 0]}, {}],
        ["test_convnext", CFG | {"mean": [1e300, 0, True]}, {}],
        ["test_convnext", CFG | {"input_size": [3]}, {}],
    ],
)
def test_damaged_metadata_of_a_weights_file_are_an_error(trained, tmp_path, architecture):
    run = RunFolder(Path(shutil.copytree(trained.run.folder, tmp_path / "run")))
    path = run.weights_path("fold0")
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {"architecture": json.dumps(architecture)})
    with pytest.raises(
        UserError,
        match=r"model\.safetensors: not this model's weights.*train fold0 again|timm can't build test_convnext",
    ):
        finished_model(run, run.config, "fold0", torch.device("cpu"))


@pytest.mark.parametrize("change", [{"mean": "grey"}, {"std": [0.1, 0.2, 0]}, {"input_size": 32}])
def test_a_folder_with_a_damaged_pretrained_cfg_is_an_error(folder, change):
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"is not a model folder of timm \("):
        build_classifier(Config(model=Model(backbone=f"local-dir:{folder}"), data=DATA))


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_folder_whose_arguments_timm_cannot_use_is_an_error(folder, pretrained):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_classes": {"a": 1}}))
    with pytest.raises(UserError, match=r"model\.backbone: timm can't build"):
        build(f"local-dir:{folder}", pretrained=pretrained)
