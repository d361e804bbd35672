"""Grad-CAM against its formula, and what the report makes of it."""

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
from maskfold.report import gradcam as explain
from maskfold.report import gradcam_section as looked
from maskfold.report.gradcam import Shown, heatmaps
from maskfold.report.gradcam_section import Explained, pairs, where_it_looked
from maskfold.report.photo_sections import mixed, seen_by_the_model
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
def test_looking_changes_no_answer(backbone):
    model = classifier(backbone)
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    shown = Shown(model, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(shown(images.float()), model(images))
        held = []
        shown.layer.register_forward_hook(lambda *at: held.append(at[2]))
        shown(images.float())
    # Higher than wide, as the photo is.
    count, channels, height, width = shown.as_map(held[0]).shape
    assert count == 2
    assert channels == model.backbone.num_features
    assert height > width > 1


def test_a_token_is_where_its_patch_is():
    """test_vit's class token is left out; token (row, column) lies in row and column of the map."""
    shown = Shown(classifier("test_vit"), SIZE)
    height, width = shown.grid
    tokens = torch.arange(1 + height * width).view(1, -1, 1)
    assert torch.equal(shown.as_map(tokens)[0, 0], tokens[0, 1:, 0].view(height, width))


def test_heat_is_the_paper_s_formula(monkeypatch):
    """Selvaraju et al. 2017, eq. 1 and 2: the maps weighted by their mean gradients, what is positive of it; then from
    0 to 1, and stretched to the photo's size."""
    model, answer = classifier("test_resnet"), 4
    run = SimpleNamespace(config=Config(model=Model(backbone="test_resnet"), data=Data(image_size=SIZE)))
    asked = []
    monkeypatch.setattr(explain, "finished_model", lambda _run, _config, part, _device: asked.append(part) or model)
    photos = np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3), np.uint8)
    found = heatmaps(run, [(fold, photo, answer) for fold, photo in zip((1, 0, 1, 1, 1), photos, strict=True)])
    assert asked == ["fold0", "fold1"]
    seen_heat = 0
    for photo, (seen, heat) in zip(photos, found, strict=True):
        assert np.array_equal(seen, photo)
        images = torch.from_numpy(photo).permute(2, 0, 1)[None]
        maps = model.backbone.forward_features(model.normalise(images)).detach().requires_grad_()
        # Log-odds: the answer's logit against all others'.
        logs = model.head(model.backbone.forward_head(maps))[0]
        (logs[answer] - torch.log(1 - logs[answer].exp())).backward()
        coarse = (maps * maps.grad.mean((2, 3), keepdim=True)).sum(1)[0].relu().detach().numpy()
        coarse = coarse - coarse.min()
        expected = cv2.resize(coarse / max(coarse.max(), 1e-7), SIZE[::-1])
        # A sum that its rounding moves is stretched with the rest.
        np.testing.assert_allclose(heat, expected, atol=0.02)
        seen_heat += heat.max() > 0.5
    assert seen_heat


def test_a_sure_answer_is_explained_too(monkeypatch):
    """Logits of hundreds: the answer's probability is 1 to the last digit, and its own gradient 0."""
    model, answer = classifier("test_resnet"), 4
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.zero_()
            parameter[answer] = 1000
    photos = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), np.uint8)
    assert (model(torch.from_numpy(photos).permute(0, 3, 1, 2))[:, answer] == 0).all()
    run = SimpleNamespace(config=Config(model=Model(backbone="test_resnet"), data=Data(image_size=SIZE)))
    monkeypatch.setattr(explain, "finished_model", lambda *_: model)
    assert all(heat.max() > 0.5 for _, heat in heatmaps(run, [(0, photo, answer) for photo in photos]))


def test_a_photo_is_explained_by_the_model_that_has_not_learned_from_it(run, monkeypatch):
    folder, oof, prepared, store = run
    asked = []

    def fake(given, rows):
        asked.extend(rows)
        return [(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)))] * len(asked)

    monkeypatch.setattr(explain, "heatmaps", fake)
    found = looked.explained(folder, oof, prepared, store)
    assert found
    fold_of = dict(zip(oof.image_id, oof.fold, strict=True))
    row_of = {name: row for row, name in enumerate(prepared.images.image_id)}
    for each, (fold, photo, answer) in zip(found, asked, strict=True):
        assert fold == fold_of[each.image_id]
        assert np.array_equal(photo, store[row_of[each.image_id]])
        at = oof.image_id.tolist().index(each.image_id)
        assert answer == oof.pred_labels[at]
        assert each.is_right == (answer == oof.label[at])


def test_pairs_are_a_wrong_and_a_right_of_one_class_and_of_different_people():
    probs = np.full((6, 18), 0.01)
    # Answers 0 0 0 1 0 5; rows 0, 1 and 4 are wrong, of two people.
    for row, (answer, p) in enumerate([(0, 0.9), (0, 0.8), (0, 0.7), (1, 0.6), (0, 0.5), (5, 0.4)]):
        probs[row, answer] = p
    label, people = np.array([1, 1, 0, 1, 5, 5]), np.array(["a", "a", "b", "c", "d", "e"])
    oof = Predictions(np.array([f"p{at}" for at in range(6)]), probs, label, np.zeros(6, int), people)
    assert pairs(oof) == [(0, 3), (4, 5)]


def test_what_an_answer_rests_on_stays_bright():
    seen = np.full((2, 2, 3), 100, np.uint8)
    lit = Explained("a", True, "", seen, np.array([[1.0, 0.0], [0.5, 0.0]])).lit
    assert lit[..., 0].tolist() == [[100, 20], [60, 20]]


def test_without_the_extra_the_report_says_how_to_get_it(run, monkeypatch):
    known = builtins.__import__

    def missing(name, *args, **more):
        if name.startswith("pytorch_grad_cam"):
            raise ImportError(name)
        return known(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert "maskfold[explain]" in where_it_looked(*run)


def test_a_backbone_without_a_map_is_told(run, monkeypatch):
    mixer = build_classifier(Config(model=Model(backbone="mixer_s32_224"), data=Data(image_size=(224, 224))))
    with pytest.raises(ValueError, match="no map"):
        Shown(mixer, (224, 224))
    monkeypatch.setattr(explain, "Shown", lambda *_: Shown(mixer, (224, 224)))
    assert "can't look into test_convnext" in html.unescape(where_it_looked(*run))


def test_weights_that_are_gone_cost_no_report(run, trained, tmp_path):
    _, oof, prepared, store = run
    folder = RunFolder(Path(shutil.copytree(trained.run.folder, tmp_path / "gone")))
    folder.weights_path("fold0").unlink()
    assert "no model to look into" in where_it_looked(folder, oof, prepared, store)


@pytest.mark.parametrize(("batch", "lines"), [(7, 2), (1, 1), (64, 2)])
def test_a_small_mixed_batch_is_shown_too(run, batch, lines):
    folder, _, prepared, store = run
    config = replaced(folder.config, mix={"name": "mixup"}, optim={"batch_size": batch})
    assert mixed(config, prepared, store, fold=1).shape[0] == lines * config.data.image_size[0]


def test_what_can_not_be_mixed_or_is_not_augmented_is_said(run):
    folder, _, prepared, store = run
    old = is_old(prepared.images.label.to_numpy())
    folds = prepared.folds.assign(
        fold=prepared.folds.person_id.isin(prepared.images.person_id[old]).map({True: 0, False: 1})
    )
    config = replaced(folder.config, mix={"name": "mixup", "partner": "old"})
    shown = seen_by_the_model(config, replace(prepared, folds=folds), store, 0)
    assert "No mixed batch can be shown: mix.partner old" in html.unescape(shown)
    frozen = replaced(folder.config, model={"frozen_epochs": "all"})
    assert "nothing else is augmented" in seen_by_the_model(frozen, prepared, store, 0)
    short = replaced(folder.config, optim={"epochs": 2})
    assert "the first 2 epochs" in seen_by_the_model(short, prepared, store, 0)


def test_mixed_photos_are_the_first_mixed_batch(run):
    """Old people's photos are painted white, all others black: a half of each photo is its old partner's."""
    folder, _, prepared, _ = run
    config = replaced(
        folder.config,
        mix={"name": "half_cutmix", "halves": "left_right", "partner": "old"},
        data={"augment": "none", "image_size": (8, 6)},
    )
    old = is_old(prepared.images.label.to_numpy())

    class Painted:
        def __getitem__(self, row):
            return np.full((8, 6, 3), 255 * old[row], np.uint8)

    sheet = mixed(config, prepared, Painted())
    photos = [photo for line in np.split(sheet, 2) for photo in np.split(line, sheet.shape[1] // 6, 1)]
    shares = {float((photo == 255).mean()) for photo in photos}
    assert 0.5 in shares
    assert shares <= {0.5, 1.0}
