"""export.py: parity with PyTorch and load_run, what is in the folder, what is refused."""

import base64
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import refused
from safetensors.torch import load_file

import maskfold
from maskfold.config.experiment import Config, replaced
from maskfold.export.check_inputs import face_photos
from maskfold.export.export_folder import complete_folder
from maskfold.export.onnx_ensemble import ensemble_graph, store_half
from maskfold.export.onnx_graph import fold_graph
from maskfold.export.parity import onnx_probs, torch_probs
from maskfold.export.timm_folder import crop_pct, write_timm_folder
from maskfold.inference.loaded_run import preprocessed
from maskfold.labels import NUM_CLASSES
from maskfold.metrics.calibration import apply_temperature
from maskfold.models.classifier import build_classifier
from maskfold.probabilities import load_predictions, mean_probs

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")


def model_of(backbone: str, head: str = "joint", size=(64, 48), seed: int = 0, **data: object):
    """(model with random weights, its configuration)."""
    changes = {"model": {"backbone": backbone, "head": head}, "data": {"image_size": size, **data}}
    config = replaced(Config(), **changes)
    torch.manual_seed(seed)
    model = build_classifier(config).eval()
    # Weights as small as the initial ones would make all probabilities equal.
    torch.nn.init.normal_(model.head.linear.weight, std=0.3)
    return model, config


def photos_of(count: int, size, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), np.uint8)


# An export takes 20 seconds. `make test` has one test with it, so that only one of its processes exports.
@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The export of the tiny run with two views and the fitted temperature."""
    from maskfold.export.run_export import ExportRequest, export_run

    out = tmp_path_factory.mktemp("exports") / "tiny"
    lines = export_run(trained.run, out, ExportRequest(tta=("none", "hflip"), temperature="oof"))
    return out, lines


def test_model_gives_the_probabilities_of_load_run(exported, trained):
    out, lines = exported
    assert "largest difference from PyTorch" in lines[0]
    session = onnxruntime.InferenceSession(out / "model.onnx")
    [photos], [probs] = session.get_inputs(), session.get_outputs()
    assert (photos.name, photos.type, photos.shape) == ("photos", "tensor(uint8)", ["batch", 32, 32, 3])
    assert (probs.name, probs.type, probs.shape) == ("probs", "tensor(float)", ["batch", NUM_CLASSES])
    metadata = session.get_modelmeta().custom_metadata_map
    temperature = float(metadata["temperature"])
    assert temperature != 1
    faces = face_photos()
    model = maskfold.load_run(trained.run.folder)
    table = model.predict(faces, tta=("none", "hflip"))
    inputs = np.stack([preprocessed(face, trained.config.data) for face in faces])
    actual = session.run(None, {"photos": inputs})[0]
    assert actual.argmax(1).tolist() == table.label.tolist()
    fold_models = [torch_probs(each.float(), ("none", "hflip"), [inputs]) for each in model.models]
    assert np.allclose(actual, apply_temperature(mean_probs(fold_models), temperature), atol=1e-5)
    assert json.loads(metadata["models"]) == ["fold0", "fold1"]
    assert len(json.loads(metadata["classes"])) == NUM_CLASSES
    assert metadata["run"] == "tiny"


@pytest.mark.slow
def test_check_json_holds_for_the_model(exported, trained):
    out, _ = exported
    check = json.loads((out / "check.json").read_text())
    session = onnxruntime.InferenceSession(out / "model.onnx")
    for example in check["inputs"]:
        photo = np.frombuffer(base64.b64decode(example["photo"]), np.uint8).reshape(1, *check["input_size"], 3)
        assert np.abs(session.run(None, {"photos": photo})[0][0] - example["probs"]).max() < check["tolerance"]
    for source in check["sources"]:
        png = np.frombuffer(base64.b64decode(source["png"]), np.uint8)
        photo = cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        pixels = preprocessed(photo, trained.config.data)
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == source["input_sha256"]
        assert np.abs(session.run(None, {"photos": pixels[None]})[0][0] - source["probs"]).max() < check["tolerance"]
    assert len(check["inputs"]) == 3
    assert len({source["input_sha256"] for source in check["sources"]}) == 2


@pytest.mark.slow
def test_the_folder_has_no_person_and_no_path(exported, trained):
    out, _ = exported
    oof = load_predictions(trained.run.folder / "oof.npz", out_of_fold=True)
    private = [*set(oof.person_id.tolist()), str(trained.home), str(trained.raw), str(Path.home()), str(out.parent)]
    private += [str(Path(maskfold.__file__).parent), ".py\0", "doc_string", "pkg.torch.onnx"]
    for path in out.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [text for text in private if text.encode() in content], path


@pytest.mark.slow
def test_the_card_is_a_card_of_the_hub(exported, trained):
    cards = pytest.importorskip("huggingface_hub")
    card = cards.ModelCard.load(exported[0] / "README.md")
    assert card.data.pipeline_tag == "image-classification"
    [macro_f1, _] = card.data.eval_results
    assert macro_f1.metric_value == round(trained.summary["oof"]["macro_f1"], 4)
    assert "Article 50" in card.text
    for title in ("Scores by group", "Calibration", "Intended use and misuse", "Preprocessing", "Licence"):
        assert f"## {title}" in card.text


@pytest.mark.slow
def test_timm_loads_a_fold(exported, trained):
    import timm

    out, _ = exported
    assert sorted(path.name for path in (out / "timm").iterdir()) == ["fold0", "fold1"]
    theirs = timm.create_model(f"local-dir:{out / 'timm' / 'fold1'}", pretrained=True).eval()
    ours = maskfold.load_run(trained.run.folder).models[1].float().eval()
    images = torch.from_numpy(photos_of(3, (32, 32))).permute(0, 3, 1, 2)
    with torch.no_grad():
        assert torch.allclose(theirs(ours.normalise(images)).softmax(1), ours(images).exp(), atol=1e-5)
    settings = timm.data.resolve_data_config({}, model=theirs)
    assert tuple(settings["input_size"]) == (3, 32, 32)
    assert (settings["crop_pct"], settings["crop_mode"], settings["interpolation"]) == (0.75, "squash", "bilinear")
    assert tuple(settings["mean"]) == tuple(ours.backbone.pretrained_cfg["mean"])
    assert theirs.pretrained_cfg["label_names"][0] == "worn, male, <30"


def test_a_factored_head_lies_beside_timms_backbone(tmp_path):
    import timm

    model, config = model_of("test_convnext", "factored")
    assert not write_timm_folder(model, config, tmp_path)
    backbone = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    head, layout = load_file(tmp_path / "head.safetensors"), json.loads((tmp_path / "head.json").read_text())
    images = torch.from_numpy(photos_of(3, (64, 48))).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = backbone(model.normalise(images)) @ head["weight"].T + head["bias"]
        mask, gender, ages = (part.softmax(1) for part in logits.split(layout["sizes"], 1))
        age = torch.stack([bins.sum(1) for bins in ages.split(layout["bins_per_age_group"], 1)], 1)
        probs = (mask[:, :, None, None] * gender[:, None, :, None] * age[:, None, None, :]).flatten(1)
        assert torch.allclose(probs, model(images).exp(), atol=1e-5)


def test_crop_pct_by_hand():
    data = Config().data.model_copy(update={"crop": "center", "crop_size": (256, 192)})
    assert crop_pct(data) == 0.5
    assert crop_pct(data.model_copy(update={"crop_size": (1000, 1000)})) == 1
    assert crop_pct(data.model_copy(update={"crop": "face"})) == 1


@pytest.mark.slow
def test_one_fold_in_half_precision_replaces_an_export(script, run, tmp_path):
    whole = script("export", run, "--out", "e")
    assert whole.code == 0, whole.err
    size = (tmp_path / "e" / "model.onnx").stat().st_size
    (tmp_path / "e" / "app.html").write_text("old")
    half = script("export", run, "--out", "e", "--folds", 1, "--half")
    assert half.code == 0, half.err
    assert "weights stored as fp16" in half.out
    assert half.out.endswith("export: e\n")
    assert (tmp_path / "e" / "model.onnx").stat().st_size < 0.4 * size
    assert [path.name for path in (tmp_path / "e" / "timm").iterdir()] == ["fold1"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_wrong_requests_write_nothing(script, run, tmp_path):
    before = sorted(tmp_path.iterdir())
    refused(script("export", run, "--out", "e", "--folds", 0, 7), "--folds 7", "use 0, 1")
    refused(script("export", run, "--out", "e", "--tta", "vflip"), "--tta vflip")
    for value in ("0", "nan", "warm"):
        refused(script("export", run, "--out", "e", "--temperature", value), f"--temperature {value}")
    refused(script("export", run), "--out")
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_is_no_export_is_kept(script, run, tmp_path):
    refused(script("export", run, "--out", run), "something other than an export")
    (tmp_path / "file").write_text("mine")
    refused(script("export", run, "--out", "file"), "is not a folder")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.onnx").write_text("mine")
    refused(script("export", run, "--out", "mine"), "something other than an export")
    assert (tmp_path / "mine" / "model.onnx").read_text() == "mine"


def test_a_failure_leaves_no_new_folder(tmp_path):
    with pytest.raises(RuntimeError), complete_folder(tmp_path / "new" / "e") as folder:
        (folder / "model.onnx").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with complete_folder(tmp_path / "new" / "e") as folder:
        (folder / "model.onnx").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")] == ["new/e/model.onnx"]


@pytest.mark.slow
def test_a_model_that_cannot_be_exported_leaves_the_old_export(script, run, tmp_path, monkeypatch):
    from maskfold.models import heads

    assert script("export", run, "--out", "e", "--folds", 0).code == 0
    before = (tmp_path / "e" / "model.onnx").read_bytes()

    def forward(self, features, with_ages=False):
        # The result depends on the values in a way that no graph can hold.
        scale = 2.0 if features.sum().item() > 0 else 1.0
        return (self.linear(features) * scale).log_softmax(1)

    monkeypatch.setattr(heads.JointHead, "forward", forward)
    refused(script("export", run, "--out", "e"), "model.backbone test_convnext", "can't export")
    assert (tmp_path / "e" / "model.onnx").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith((".", "e"))) == ["e"]


def test_without_the_extra_the_command_to_install_it_is_printed(script, run, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "onnx" else find(name, *more))
    refused(script("export", run, "--out", "e"), "needs onnx;", "pip install 'maskfold[export]'")


def test_a_model_that_is_too_large_is_refused(monkeypatch):
    from maskfold.errors import UserError
    from maskfold.export import onnx_graph

    monkeypatch.setattr(onnx_graph, "MAX_GRAPH_BYTES", 10_000)
    with pytest.raises(UserError, match=r"test_convnext: the weights have .* GB"):
        fold_graph(model_of("test_convnext")[0], ("none",), (64, 48), "test_convnext")


COMBINATIONS = [
    ("test_resnet", "factored", 2, ("none",), (64, 48)),
    ("test_resnet", "joint", 5, ("none", "hflip"), (64, 48)),
    ("tf_efficientnet_lite0", "joint", 1, ("none", "hflip"), (96, 72)),
    ("tf_efficientnet_lite0", "factored", 2, ("none",), (96, 72)),
    ("convnext_atto", "factored", 1, ("none", "hflip"), (96, 72)),
    ("vit_tiny_patch16_224", "joint", 2, ("none", "hflip"), (96, 80)),
    ("swin_tiny_patch4_window7_224", "joint", 1, ("none",), (224, 224)),
    ("convnext_atto", "joint", 2, ("none", "zoom_out", "five_crop"), (96, 72)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "head", "num_folds", "views", "size"), COMBINATIONS)
def test_parity_of_backbones(backbone, head, num_folds, views, size):
    models = [model_of(backbone, head, size, seed)[0] for seed in range(num_folds)]
    batches = [photos_of(count, size, count) for count in (1, 3, 8)]
    expected = mean_probs([torch_probs(model, views, batches) for model in models])
    graph = ensemble_graph([fold_graph(model, views, size, backbone) for model in models], 1, {}, backbone)
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    whole = graph.SerializeToString()
    assert np.abs(onnx_probs(whole, batches) - expected).max() < 1e-5
    store_half(graph)
    half = graph.SerializeToString()
    assert len(half) < 0.6 * len(whole)
    assert np.abs(onnx_probs(half, batches) - expected).max() < 0.02


@pytest.mark.slow
def test_hiera_cannot_be_exported():
    from maskfold.errors import UserError

    model, _ = model_of("hiera_tiny_224", size=(224, 224))
    with pytest.raises(UserError, match=r"model.backbone hiera_tiny_224: torch.onnx"):
        fold_graph(model, ("none",), (224, 224), "hiera_tiny_224")
