"""Weight files of any name and classifier are loaded; files of another model are an error."""

import pickle
import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from maskfold.config.experiment import Config, Data, Model
from maskfold.errors import UserError
from maskfold.models import weight_files
from maskfold.models.backbone import build_backbone
from maskfold.models.classifier import build_classifier
from maskfold.models.weight_files import read_safetensors
from maskfold.runs.part_weights import finished_model, write_weights
from maskfold.runs.run_folder import RunFolder

DATA = Data(image_size=(32, 32))


def state_of(name: str, **options) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state = timm.create_model(name, **options).state_dict()
    return {key: value.contiguous() for key, value in state.items()}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return state_of("test_resnet")


def build(path: Path, name: str = "test_resnet", data: Data = DATA) -> nn.Module:
    return build_backbone(Model(backbone=name, weights=path), data)


def assert_loaded(backbone: nn.Module, state: dict[str, torch.Tensor]) -> None:
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, state[name]), name


# Batch norm in the classifier, with a second head for distillation and without; one layer that two blocks share.
@pytest.mark.parametrize("name", ["levit_128s", "repvit_m0_9", "efficientvit_m0", "coat_tiny"])
def test_a_models_own_file_is_loaded(tmp_path, name):
    state = state_of(name)
    write_weights(tmp_path / "file", state)
    backbone = build(tmp_path / "file", name, Data(image_size=timm.get_pretrained_cfg(name).input_size[1:]))
    assert_loaded(backbone, state)
    # The file's tensors are not kept a second time in pretrained_cfg.
    assert "state_dict" not in backbone.pretrained_cfg


def test_weights_that_timm_loads_from_npz_are_loaded_from_safetensors(tmp_path):
    """The pretrained_cfg of some ViTs says that their weights are an .npz file."""
    state = state_of("vit_tiny_patch16_224")
    save_file(state, tmp_path / "vit.safetensors")
    backbone = build(tmp_path / "vit.safetensors", "vit_tiny_patch16_224.augreg_in21k", Data(image_size=(224, 224)))
    assert_loaded(backbone, state)


@pytest.mark.parametrize("name", ["4b2fc6c8d4", "MODEL.SAFETENSORS", "model.bin", "model.pth", "link"])
def test_the_content_of_a_file_decides_its_format(tmp_path, state, name):
    path = tmp_path / name
    if name == "link":
        save_file(state, tmp_path / "blob")
        path.symlink_to("blob")
    else:
        save_file(state, path)
    assert_loaded(build(path), state)


def test_a_safetensors_file_that_begins_like_a_pickle(tmp_path, state):
    for length in range(256):
        save_file(state, tmp_path / "file", {"note": "x" * length})
        if (tmp_path / "file").read_bytes()[0] == 0x80:
            break
    assert (tmp_path / "file").read_bytes()[0] == 0x80
    assert_loaded(build(tmp_path / "file"), state)


@pytest.mark.parametrize("legacy", [False, True])
def test_pytorch_checkpoints_are_loaded(tmp_path, state, legacy):
    other = {key: tensor + 1 for key, tensor in state.items()}
    prefixed = {f"module.{key}": tensor for key, tensor in state.items()}
    for content in (state, {"state_dict": prefixed, "epoch": 3}, {"model": other, "model_ema": state}):
        torch.save(content, tmp_path / "model.pth", _use_new_zipfile_serialization=not legacy)
        assert_loaded(build(tmp_path / "model.pth"), state)


class Touch:
    """An object whose pickle runs code."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_checkpoint_is_not_run(tmp_path, state, save):
    save({"state_dict": state, "more": Touch(tmp_path / "ran")}, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"model\.weights.*convert it to safetensors"):
        build(tmp_path / "model.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {}}])
def test_checkpoints_without_tensors_are_an_error(tmp_path, content):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"model\.weights.*no"):
        build(tmp_path / "model.pth")


def test_a_file_with_a_missing_or_unexpected_tensor_is_an_error(tmp_path, state):
    first = next(iter(state))
    for changed in (
        {key: tensor for key, tensor in state.items() if key != first},
        state | {"fc.bn.weight": torch.ones(3)},
        state | {"layer9.weight": torch.ones(3)},
        state | {first: state[first][:1]},
    ):
        save_file(changed, tmp_path / "model.safetensors")
        with pytest.raises(UserError, match=r"does not fit test_resnet: it contains \d+ of the \d+ tensors"):
            build(tmp_path / "model.safetensors")


def test_files_of_any_number_of_classes_are_loaded(tmp_path):
    for classes in (0, 18):
        state = state_of("levit_128s", num_classes=classes)
        save_file(state, tmp_path / "levit")
        assert_loaded(build(tmp_path / "levit", "levit_128s", Data(image_size=(224, 224))), state)


def test_loading_restores_load_state_dict(tmp_path, state):
    before = nn.Module.load_state_dict
    save_file(state, tmp_path / "file")
    build(tmp_path / "file")
    with pytest.raises(UserError):
        build(tmp_path / "file", "test_vit")
    assert nn.Module.load_state_dict is before
    with pytest.raises(RuntimeError):
        nn.Linear(2, 2).load_state_dict({})


def test_shared_tensors_are_written_under_each_name(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    flat = torch.arange(6.0)
    tensors = model.state_dict() | {"begin": flat[:3], "end": flat[3:], "whole": flat, "turned": model[0].weight.T}
    write_weights(tmp_path / "model.safetensors", tensors)
    read = load_file(tmp_path / "model.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(read[name], tensor), name


def test_weights_are_read_without_memory_maps(tmp_path, state, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_file(state, path, {"key": "value"})
    expected = read_safetensors(path)

    def no_maps(*_):
        raise OSError("No such device (os error 19)")

    monkeypatch.setattr(weight_files, "safe_open", no_maps)
    tensors, metadata = read_safetensors(path)
    assert metadata == expected[1] == {"key": "value"}
    assert tensors.keys() == expected[0].keys()
    assert all(torch.equal(tensor, expected[0][name]) for name, tensor in tensors.items())
    assert_loaded(build(path), state)


def test_weights_on_a_failing_disk_are_not_called_damaged(tmp_path, trained):
    run = RunFolder(Path(shutil.copytree(trained.run.folder, tmp_path / "run")))
    path = run.weights_path("fold0")
    path.unlink()
    path.symlink_to("/proc/self/mem")
    with pytest.raises(UserError, match=r"model\.safetensors: cannot be read \(Input/output error\)") as error:
        finished_model(run, run.config, "fold0", torch.device("cpu"))
    assert "delete" not in str(error.value)


@pytest.mark.parametrize("from_file", [True, False])
def test_a_reloaded_model_predicts_the_same_where_timm_builds_it_differently(tmp_path, from_file):
    """timm builds fbnetc_100 with another epsilon in batch norm when it loads weights."""
    save_file(state_of("fbnetc_100"), tmp_path / "fbnetc")
    config = Config(model=Model(backbone="fbnetc_100", weights=tmp_path / "fbnetc" if from_file else None), data=DATA)
    model = build_classifier(config).eval()
    run = RunFolder(tmp_path)
    write_weights(run.weights_path("fold0"), model.state_dict())
    reloaded = finished_model(run, config, "fold0", torch.device("cpu")).eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(reloaded(images), model(images))


# An empty stack, a short read, an unknown place in the memo, no dictionary to set an item of.
@pytest.mark.parametrize(
    "pickled", [b"\x80\x020.", b"\x80\x02X\5\0", b"\x80\x02h\5.", b"\x80\x02K\1K\2s.", b"\x80\x02."]
)
def test_a_damaged_pickle_is_an_error(tmp_path, pickled):
    (tmp_path / "model.pth").write_bytes(pickled)
    with pytest.raises(UserError, match=r"model\.weights.*not a readable"):
        build(tmp_path / "model.pth")
