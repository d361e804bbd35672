import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import refused, tiny_args, tiny_config
from safetensors.torch import load_file

from maskfold.config.experiment import Config, replaced
from maskfold.data.folds import split
from maskfold.data.images_table import load_prepared
from maskfold.errors import UserError
from maskfold.fileio import sha256
from maskfold.runs.run_data import prepared_of
from maskfold.runs.run_folder import FULL, RunFolder
from maskfold.training.fit import TrainRequest, fit_run
from maskfold.training.pseudo_labels import training_photos
from maskfold.training.pseudo_sources import find_sources

# Tiny models are not confident, so the threshold is little above chance (1/18).
LOW = ("--pseudo.threshold", 0.08, "--run.predict_precision", "fp32")


@pytest.fixture(scope="module")
def project(synthetic, tmp_path_factory):
    """A project folder with runs/a: a finished run of two folds and a refit, whose models label eval photos."""
    home = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        config = tiny_config(synthetic, "--data.prepared", "p", "--optim.lr", 0.01)
        fit_run(config, "a", TrainRequest(refit=True))
    return home


@pytest.fixture
def first(project, script, tmp_path):
    """The run of a copy of the project, which is the current folder."""
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    return RunFolder(Path("runs/a"))


def pseudo(script, synthetic, name, *words):
    return script("train", *tiny_args(synthetic, "--data.prepared", "p", "--name", name, *LOW, *words))


def fold_job(run, prepared, config):
    """The job of fold 0, whose list of pseudo-labels is already there."""
    from maskfold.loading.store import open_store
    from maskfold.time_left import TimeLeft
    from maskfold.training.fold_job import FoldJob, Part, TrainContext
    from maskfold.training.stop_request import StopRequest

    config = replaced(config, pseudo={"runs": ["other"]})
    part = Part("fold0", *split(prepared.images, prepared.folds, 0))
    store = open_store(prepared, prepared.images, config.data)
    return FoldJob(TrainContext(run, config, prepared, store, StopRequest()), part, TimeLeft({}))


def set_keys(run, sections):
    """Change keys in a run's config.yaml."""
    path = run / "config.yaml"
    content = yaml.safe_load(path.read_text())
    for name, keys in sections.items():
        content[name] = content.get(name, {}) | keys
    path.write_text(yaml.safe_dump(content))


def pseudo_record(run, part):
    return json.loads((Path("runs") / run / part / "pseudo.json").read_text())


def test_labels_of_a_fold_come_from_models_of_the_same_fold(script, synthetic, first, monkeypatch):
    """Watch which weights are loaded: fold k loads only fold-k models, in the second generation too."""
    from maskfold.runs import part_weights

    opened, real = [], part_weights.read_safetensors

    def spy(path):
        if Path(path).name == "model.safetensors":
            opened.append(Path(path).parts[-3:-1])
        return real(path)

    monkeypatch.setattr(part_weights, "read_safetensors", spy)
    done = pseudo(script, synthetic, "b", "--pseudo.runs", "a")
    assert done.code == 0, done.err
    assert opened == [("a", "fold0"), ("b", "fold0"), ("a", "fold1"), ("b", "fold1")]
    opened.clear()
    done = pseudo(script, synthetic, "c", "--pseudo.runs", "runs/b", "a", "--pseudo.views", "none")
    assert done.code == 0, done.err
    seen = {part: {run for run, other in opened if other == part} for part in ("fold0", "fold1")}
    assert seen == {"fold0": {"a", "b", "c"}, "fold1": {"a", "b", "c"}}
    for part in ("fold0", "fold1"):
        record = pseudo_record("c", part)
        assert [(source["run"], source["part"]) for source in record["sources"]] == [("b", part), ("a", part)]
        assert record["sources"][0]["checkpoint"] == sha256(Path("runs/b") / part / "model.safetensors")


def test_the_labels_are_the_mean_of_the_tta_views_above_the_threshold(script, synthetic, first):
    import torch

    from maskfold.loading.dataset import PhotoDataset
    from maskfold.loading.photo_loader import PhotoLoader
    from maskfold.loading.sampler import PhotoBatchSampler
    from maskfold.loading.store import open_store
    from maskfold.loading.transforms import EvalTransform
    from maskfold.models.classifier import build_classifier
    from maskfold.models.device import Hardware
    from maskfold.models.prediction_loop import predict
    from maskfold.runs.part_weights import load_part

    assert pseudo(script, synthetic, "b", "--pseudo.runs", "a", "--folds", 1).code == 0
    prepared, config = prepared_of(first), first.config
    model = build_classifier(config)
    load_part(model, first, "fold1")
    store = open_store(prepared, prepared.evaluation, config.data)
    rows = np.arange(len(store))
    loader = PhotoLoader(
        PhotoDataset(store, None, EvalTransform(config.data)), PhotoBatchSampler(rows, 7, False), 0, False
    )
    # In the precision of the source's predictions.
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[config.run.predict_precision]
    _, [probs] = predict([model], loader, Hardware(torch.device("cpu"), dtype), ("none", "hflip"))
    passes = probs.max(1) >= 0.08
    selected = pd.read_csv("runs/b/fold1/pseudo.csv")
    clear = np.abs(probs.max(1) - 0.08) > 1e-3
    wanted = prepared.evaluation.image_id[passes & clear]
    assert set(wanted) <= set(selected.image_id)
    assert len(selected) > 0
    by_id = dict(zip(prepared.evaluation.image_id, probs, strict=True))
    for name, label, confidence in selected.itertuples(index=False):
        assert confidence == pytest.approx(by_id[name].max(), abs=1e-2)
        assert by_id[name][label] == pytest.approx(by_id[name].max(), abs=1e-2)


def test_pseudo_labelled_photos_have_their_weight_and_are_never_validated(script, synthetic, first):
    assert pseudo(script, synthetic, "b", "--pseudo.runs", "a", "--pseudo.weight", 0.25, "--folds", 0).code == 0
    from accelerate import Accelerator

    run, prepared = RunFolder(Path("runs/b")), load_prepared(Path("p"))
    train, valid = split(prepared.images, prepared.folds, 0)
    photos = training_photos(fold_job(run, prepared, run.config), Accelerator(cpu=True))
    chosen, n = pd.read_csv("runs/b/fold0/pseudo.csv"), len(prepared.images)
    joined = photos.train_rows[photos.train_rows >= n]
    assert photos.train_rows[: len(train)].tolist() == train.tolist()
    assert prepared.evaluation.image_id.iloc[joined - n].tolist() == [
        name for name in prepared.evaluation.image_id if name in set(chosen.image_id)
    ]
    by_id = dict(zip(chosen.image_id, chosen.label, strict=True))
    assert photos.labels[joined].tolist() == [by_id[name] for name in prepared.evaluation.image_id.iloc[joined - n]]
    assert set(photos.weights[joined]) == {0.25}
    assert set(photos.weights[train]) == {1.0}
    # Their age is unknown.
    assert set(photos.ages[joined]) == {0}
    assert photos.val_rows.tolist() == valid.tolist()
    oof = np.load("runs/b/fold0/oof.npz")
    assert sorted(oof["image_id"]) == sorted(prepared.images.image_id.iloc[valid])
    # Training without them gives other weights.
    plain = script("train", *tiny_args(synthetic, "--data.prepared", "p", "--name", "n", "--folds", 0, *LOW[2:]))
    assert plain.code == 0
    one, other = (load_file(f"runs/{name}/fold0/model.safetensors") for name in ("b", "n"))
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_a_resumed_run_keeps_its_pseudo_labels(script, synthetic, first):
    assert pseudo(script, synthetic, "b", "--pseudo.runs", "a", "--folds", 0).code == 0
    shutil.rmtree("runs/a")
    done = pseudo(script, synthetic, "b", "--pseudo.runs", "a", "--folds", 0)
    assert done.code == 0, done.err
    refused(pseudo(script, synthetic, "b", "--pseudo.runs", "a"), "a: ", "config.yaml")


@pytest.mark.slow
def test_a_refit_is_labelled_by_all_folds_and_labels_no_fold(script, synthetic, first):
    done = pseudo(script, synthetic, "b", "--pseudo.runs", "a", "--refit")
    assert done.code == 0, done.err
    assert [(s["run"], s["part"]) for s in pseudo_record("b", FULL)["sources"]] == [("a", "fold0"), ("a", "fold1")]
    for name in ("a", "b"):
        config = Config(pseudo={"runs": [f"runs/{name}"]})
        for part in ("fold0", "fold1", FULL):
            sources = find_sources(RunFolder(Path("runs/c")), config, load_prepared(Path("p")), part)
            assert FULL not in [model for _, model in sources]


def test_cached_features_work_with_pseudo_labels(script, synthetic, first):
    done = pseudo(script, synthetic, "b", "--pseudo.runs", "a", "--folds", 0, "--model.frozen_epochs", "all")
    assert done.code == 0, done.err
    assert len(pd.read_csv("runs/b/fold0/pseudo.csv")) > 0


@pytest.mark.slow
def test_models_that_know_validation_people_are_an_error(script, synthetic, first):
    assert pseudo(script, synthetic, "b", "--pseudo.runs", "a").code == 0
    common = ("--data.prepared", "p")
    refused(pseudo(script, synthetic, "b2", "--pseudo.runs", "b2"), "b2: ", "config.yaml")
    refused(pseudo(script, synthetic, "b", "--pseudo.runs", "b", "--fresh"), "pseudo.runs", "b")
    refused(pseudo(script, synthetic, "c", "--pseudo.runs", "a", "--pseudo.views", "hflop"), "pseudo.views", "hflip")
    # A model that was trained on labels of another fold's model.
    record = pseudo_record("b", "fold1")
    record["sources"][0]["part"] = "fold0"
    (Path("runs/b/fold1/pseudo.json")).write_text(json.dumps(record))
    refused(pseudo(script, synthetic, "c", "--pseudo.runs", "b"), "runs/b", "fold1", "pseudo-labels of fold0")
    assert pseudo(script, synthetic, "c", "--pseudo.runs", "b", "--folds", 0).code == 0
    Path("runs/b/fold1/pseudo.json").unlink()
    refused(pseudo(script, synthetic, "d", "--pseudo.runs", "b"), "pseudo.json", "records which models")
    # A run that was selected on its validation folds.
    assert script("train", *tiny_args(synthetic, *common, "--name", "best", "--run.keep", "best")).code == 0
    refused(pseudo(script, synthetic, "e", "--pseudo.runs", "best"), "pseudo.runs", "best", "run.keep")
    # An unfinished run.
    assert script("train", *tiny_args(synthetic, *common, "--name", "half", "--folds", 0)).code == 0
    refused(pseudo(script, synthetic, "e", "--pseudo.runs", "half"), "no finished fold1")
    # A run on other folds.
    assert (
        script("train", *tiny_args(synthetic, "--data.prepared", "q", "--data.fold_seed", 7, "--name", "other")).code
        == 0
    )
    refused(pseudo(script, synthetic, "e", "--pseudo.runs", "other"), "pseudo.runs", "other", "folds of p, so")
    assert not Path("runs/e").exists()


def test_a_missing_eval_set_is_an_error(script, raw, tmp_path):
    shutil.rmtree(raw / "eval")
    assert script("train", *tiny_args(raw, "--data.prepared", "p", "--name", "a")).code == 0
    refused(pseudo(script, raw, "b", "--pseudo.runs", "a"), "pseudo.runs", "no eval set")


@pytest.mark.parametrize(
    "content",
    ["", "\0", "a,b\n1,2\n", "image_id,label\n{}\n", "image_id,label\n{},18\n", "image_id,label\n{},1\n{},2\n"],
)
def test_a_damaged_list_of_pseudo_labels_is_an_error(trained, tmp_path, content):
    from accelerate import Accelerator

    prepared = load_prepared(trained.prepared)
    path = tmp_path / "run" / "fold0" / "pseudo.csv"
    path.parent.mkdir(parents=True)
    path.write_text(content.replace("{}", prepared.evaluation.image_id[0]))
    with pytest.raises(UserError, match=r"pseudo\.csv.*delete .*fold0"):
        training_photos(fold_job(RunFolder(tmp_path / "run"), prepared, trained.config), Accelerator(cpu=True))


def test_a_list_without_pseudo_labels_adds_no_photo(trained, tmp_path):
    from accelerate import Accelerator

    prepared = load_prepared(trained.prepared)
    path = tmp_path / "run" / "fold0" / "pseudo.csv"
    path.parent.mkdir(parents=True)
    path.write_text("image_id,label,confidence\n")
    job = fold_job(RunFolder(tmp_path / "run"), prepared, trained.config)
    photos = training_photos(job, Accelerator(cpu=True))
    assert photos.train_rows.tolist() == job.part.train_rows.tolist()


@pytest.mark.parametrize("content", ["{}", '{"sources": [1]}', '{"sources": null}'])
def test_a_damaged_record_of_sources_is_an_error(trained, tmp_path, content):
    run = shutil.copytree(trained.run.folder, tmp_path / "runs" / "a")
    set_keys(run, {"pseudo": {"runs": ["other"]}})
    (run / "fold0" / "pseudo.json").write_text(content)
    config = replaced(trained.config, pseudo={"runs": [str(run)]})
    with pytest.raises(UserError, match=r"pseudo\.json"):
        find_sources(RunFolder(tmp_path / "runs" / "b"), config, load_prepared(trained.prepared), "fold0")


def test_the_error_names_what_a_run_lacks(trained, tmp_path):
    """The refit needs a finished fold. A finished fold may lack its weights; it is not called unfinished then."""
    run = Path(shutil.copytree(trained.run.folder, tmp_path / "runs" / "a"))
    config = replaced(trained.config, pseudo={"runs": [str(run)]})
    prepared, other = load_prepared(trained.prepared), RunFolder(tmp_path / "runs" / "b")
    (run / "fold0" / "model.safetensors").unlink()
    for part in ("fold0", FULL):
        with pytest.raises(UserError, match=r"fold0/model\.safetensors: not found; delete .*fold0 and train fold0"):
            find_sources(other, config, prepared, part)
    for path in run.glob("*/oof.npz"):
        path.unlink()
    with pytest.raises(UserError, match="has no finished fold0"):
        find_sources(other, config, prepared, "fold0")
    with pytest.raises(UserError, match="has no finished fold;"):
        find_sources(other, config, prepared, FULL)
