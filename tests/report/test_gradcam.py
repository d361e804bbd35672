"""Grad-CAM against its formula, and the sections of the report that show photos."""

import builtins
import html
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from maskfold.config.experiment import Config, Data, Model, replaced
from maskfold.data.images_table import load_prepared
from maskfold.labels import is_old
from maskfold.loading.store import open_store
from maskfold.models.classifier import build_classifier
from maskfold.probabilities import Predictions, load_predictions
from maskfold.report import gradcam
from maskfold.report.gradcam import GradcamModel, heatmaps
from maskfold.report.gradcam_section import GradcamExample, error_pairs, gradcam_examples, gradcam_section
from maskfold.report.photo_sections import augmentation_section, mixing_examples
from maskfold.runs.run_folder import RunFolder

SIZE = (96, 64)


def classifier(backbone):
    torch.manual_seed(0)
    return build_classifier(Config(model=Model(backbone=backbone), data=Data(image_size=SIZE))).eval()


@pytest.fixture
def run(trained):
    prepared = load_prepared(trained.prepared)
    oof = load_predictions(trained.run.folder / "oof.npz", out_of_fold=True)
    return trained.run, oof, prepared, open_store(prepared, prepared.images, trained.run.config.data)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_vit", "swin_tiny_patch4_window7_224"])
def test_gradcam_model_predicts_like_the_classifier(backbone):
    model = classifier(backbone)
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    gradcam_model = GradcamModel(model, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(gradcam_model(images.float()), model(images))
        outputs = []
        gradcam_model.layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        gradcam_model(images.float())
    # Higher than wide, like the photo.
    count, channels, height, width = gradcam_model.as_map(outputs[0]).shape
    assert count == 2
    assert channels == model.backbone.num_features
    assert height > width > 1


def test_tokens_are_arranged_like_their_patches():
    """The class token of test_vit is left out; token (row, column) is in that row and column of the map."""
    gradcam_model = GradcamModel(classifier("test_vit"), SIZE)
    height, width = gradcam_model.grid
    tokens = torch.arange(1 + height * width).view(1, -1, 1)
    assert torch.equal(gradcam_model.as_map(tokens)[0, 0], tokens[0, 1:, 0].view(height, width))


def test_heat_map_follows_the_formula_of_the_paper(monkeypatch):
    """Selvaraju et al. 2017, eq. 1 and 2: the positive part of the maps weighted by their mean gradients; then scaled
    to 0..1 and resized to the photo."""
    model, class_index = classifier("test_resnet"), 4
    run = SimpleNamespace(config=Config(model=Model(backbone="test_resnet"), data=Data(image_size=SIZE)))
    parts = []
    monkeypatch.setattr(gradcam, "finished_model", lambda _run, _config, part, _device: parts.append(part) or model)
    photos = np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3), np.uint8)
    requests = [(fold, photo, class_index) for fold, photo in zip((1, 0, 1, 1, 1), photos, strict=True)]
    results = heatmaps(run, requests)
    assert parts == ["fold0", "fold1"]
    num_maps_with_heat = 0
    for photo, (pixels, heat) in zip(photos, results, strict=True):
        assert np.array_equal(pixels, photo)
        images = torch.from_numpy(photo).permute(2, 0, 1)[None]
        maps = model.backbone.forward_features(model.normalise(images)).detach().requires_grad_()
        # The log-odds of the class against all others.
        logs = model.head(model.backbone.forward_head(maps))[0]
        (logs[class_index] - torch.log(1 - logs[class_index].exp())).backward()
        coarse = (maps * maps.grad.mean((2, 3), keepdim=True)).sum(1)[0].relu().detach().numpy()
        coarse = coarse - coarse.min()
        expected = cv2.resize(coarse / max(coarse.max(), 1e-7), SIZE[::-1])
        # Scaling enlarges rounding errors.
        np.testing.assert_allclose(heat, expected, atol=0.02)
        num_maps_with_heat += heat.max() > 0.5
    assert num_maps_with_heat


def test_saturated_predictions_have_a_heat_map(monkeypatch):
    """With logits of hundreds, the probability of the class is exactly 1 and its own gradient 0."""
    model, class_index = classifier("test_resnet"), 4
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.zero_()
            parameter[class_index] = 1000
    photos = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), np.uint8)
    assert (model(torch.from_numpy(photos).permute(0, 3, 1, 2))[:, class_index] == 0).all()
    run = SimpleNamespace(config=Config(model=Model(backbone="test_resnet"), data=Data(image_size=SIZE)))
    monkeypatch.setattr(gradcam, "finished_model", lambda *_: model)
    assert all(heat.max() > 0.5 for _, heat in heatmaps(run, [(0, photo, class_index) for photo in photos]))


def test_each_example_uses_the_model_of_its_own_fold(run, monkeypatch):
    folder, oof, prepared, store = run
    requests = []

    def fake_heatmaps(_run, rows):
        requests.extend(rows)
        return [(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)))] * len(requests)

    monkeypatch.setattr(gradcam, "heatmaps", fake_heatmaps)
    examples = gradcam_examples(folder, oof, prepared, store)
    assert examples
    fold_of = dict(zip(oof.image_id, oof.fold, strict=True))
    row_of = {name: row for row, name in enumerate(prepared.images.image_id)}
    for example, (fold, photo, class_index) in zip(examples, requests, strict=True):
        assert fold == fold_of[example.image_id]
        assert np.array_equal(photo, store[row_of[example.image_id]])
        row = oof.image_id.tolist().index(example.image_id)
        assert class_index == oof.pred_labels[row]
        assert example.is_correct == (class_index == oof.label[row])


def test_pairs_have_one_class_and_different_people():
    probs = np.full((6, 18), 0.01)
    # Predictions 0 0 0 1 0 5; rows 0, 1 and 4 are incorrect and of two people.
    for row, (class_index, p) in enumerate([(0, 0.9), (0, 0.8), (0, 0.7), (1, 0.6), (0, 0.5), (5, 0.4)]):
        probs[row, class_index] = p
    label, people = np.array([1, 1, 0, 1, 5, 5]), np.array(["a", "a", "b", "c", "d", "e"])
    oof = Predictions(np.array([f"p{row}" for row in range(6)]), probs, label, np.zeros(6, int), people)
    assert error_pairs(oof) == [(0, 3), (4, 5)]


def test_overlay_is_bright_where_the_heat_map_is_high():
    pixels = np.full((2, 2, 3), 100, np.uint8)
    overlay = GradcamExample("a", True, "", pixels, np.array([[1.0, 0.0], [0.5, 0.0]])).overlay
    assert overlay[..., 0].tolist() == [[100, 20], [60, 20]]


def test_section_without_the_extra_names_its_installation(run, monkeypatch):
    original_import = builtins.__import__

    def missing(name, *args, **more):
        if name.startswith("pytorch_grad_cam"):
            raise ImportError(name)
        return original_import(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert "maskfold[explain]" in gradcam_section(*run)


def test_section_names_a_backbone_without_feature_map(run, monkeypatch):
    mixer = build_classifier(Config(model=Model(backbone="mixer_s32_224"), data=Data(image_size=(224, 224))))
    with pytest.raises(ValueError, match="no feature map"):
        GradcamModel(mixer, (224, 224))
    monkeypatch.setattr(gradcam, "GradcamModel", lambda *_: GradcamModel(mixer, (224, 224)))
    assert "does not support test_convnext" in html.unescape(gradcam_section(*run))


def test_section_without_weights_gives_the_reason(run, trained, tmp_path):
    _, oof, prepared, store = run
    folder = RunFolder(Path(shutil.copytree(trained.run.folder, tmp_path / "gone")))
    folder.weights_path("fold0").unlink()
    assert "Grad-CAM can't load a model" in html.unescape(gradcam_section(folder, oof, prepared, store))


@pytest.mark.parametrize(("batch", "lines"), [(7, 2), (1, 1), (64, 2)])
def test_mixing_examples_of_small_batches(run, batch, lines):
    folder, _, prepared, store = run
    config = replaced(folder.config, mix={"name": "mixup"}, optim={"batch_size": batch})
    assert mixing_examples(config, prepared, store, fold=1).shape[0] == lines * config.data.image_size[0]


def test_augmentation_section_explains_missing_photos(run):
    folder, _, prepared, store = run
    old = is_old(prepared.images.label.to_numpy())
    folds = prepared.folds.assign(
        fold=prepared.folds.person_id.isin(prepared.images.person_id[old]).map({True: 0, False: 1})
    )
    config = replaced(folder.config, mix={"name": "mixup", "partner": "old"})
    text = augmentation_section(config, replace(prepared, folds=folds), store, 0)
    assert "No mixed batch can be shown: mix.partner old" in html.unescape(text)
    frozen = replaced(folder.config, model={"frozen_epochs": "all"})
    assert "there is no other augmentation" in augmentation_section(frozen, prepared, store, 0)
    short = replaced(folder.config, optim={"epochs": 2})
    assert "the first 2 epochs" in augmentation_section(short, prepared, store, 0)


def test_mixing_examples_are_the_first_mixed_batch(run):
    """Photos of old people are white and all others black: one half of each photo is that of its old partner."""
    folder, _, prepared, _ = run
    config = replaced(
        folder.config,
        mix={"name": "half_cutmix", "halves": "left_right", "partner": "old"},
        data={"augment": "none", "image_size": (8, 6)},
    )
    old = is_old(prepared.images.label.to_numpy())

    class BlackAndWhitePhotos:
        def __getitem__(self, row):
            return np.full((8, 6, 3), 255 * old[row], np.uint8)

    pixels = mixing_examples(config, prepared, BlackAndWhitePhotos())
    photos = [photo for line in np.split(pixels, 2) for photo in np.split(line, pixels.shape[1] // 6, 1)]
    shares = {float((photo == 255).mean()) for photo in photos}
    assert 0.5 in shares
    assert shares <= {0.5, 1.0}
