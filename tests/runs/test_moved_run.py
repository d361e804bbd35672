"""Runs and data that are moved, copied or in places of their own, and the flags that name these places."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, refused, tiny_args
from support import metrics_of, read_only_mount

import maskfold
from maskfold.config.experiment import Config, config_hash
from maskfold.config.yaml_file import load_config
from maskfold.data.images_table import load_prepared
from maskfold.data.prepared_folder import prepare
from maskfold.data.raw_layout import find_layout
from maskfold.fileio import sha256
from maskfold.inference import predict_members
from maskfold.metrics import two_sample
from maskfold.runs import provenance as provenance_module
from maskfold.runs import run_data
from maskfold.runs.resolved_config import resolve_config
from maskfold.training import fold_trainer

GONE = "/gone/with/another/machine"


@pytest.fixture
def moved(trained, script, tmp_path) -> Path:
    """A copy of a project whose files name another folder, which is gone. The working directory is elsewhere."""
    home = Path(shutil.copytree(trained.home, tmp_path / "moved"))
    shutil.copytree(trained.raw, home / trained.raw.name)
    run = home / "runs" / "tiny"
    for path in (run / "config.yaml", home / "prepared" / "dataset.json"):
        text = path.read_text(encoding="utf-8")
        for old in (trained.home, trained.raw.parent):
            text = text.replace(str(old), GONE)
        assert GONE in text
        path.write_text(text, encoding="utf-8")
    provenance = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(provenance | {"config_sha256": sha256(run / "config.yaml")}))
    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("key", "values", "same"),
    [
        ("data.root", ("a", "/b"), True),
        ("data.prepared", ("a", "/b"), True),
        ("data.corrections", ("a.csv", "/b.csv"), True),
        ("model.weights", ("a/w.safetensors", "/b/w.safetensors"), True),
        ("model.weights", ("a/w.safetensors", "a/v.safetensors"), False),
        ("model.backbone", ("local-dir:a/net", "local-dir:/b/net"), True),
        ("model.backbone", ("local-dir:a/net", "local-dir:a/other"), False),
        ("model.backbone", ("local-dir:net", "net"), False),
        ("pseudo.runs", (["runs/a"], ["/b/a"]), True),
        ("pseudo.runs", (["runs/a"], ["runs/b"]), False),
        ("data.fold_seed", (1, 2), False),
    ],
)
def test_config_hash_does_not_depend_on_places(tmp_path, key, values, same):
    (tmp_path / "x.yaml").write_text("")
    one, other = (config_hash(load_config(tmp_path / "x.yaml", {key: value})) for value in values)
    assert (one == other) == same


@pytest.mark.slow
def test_verbs_find_the_data_of_a_moved_project(script, moved, no_access):
    """Also if the recorded place is in the home of another user."""
    assert str(no_access) == GONE
    home = moved.parent.parent
    raw, prepared = home / "원본 raw", home / "prepared"
    places = ("--data.root", raw, "--data.prepared", prepared)
    for verb in (("prepare", "--data", raw, "--out", prepared), ("train", *tiny_args(raw, *places, "--out", moved))):
        done = script(*verb)
        assert done.code == 0, done.err
    for verb in (("evaluate",), ("submit", "--out", "a.csv"), ("report",), ("audit",), ("submit", "--from", "a.json")):
        done = script(verb[0], *([] if "--from" in verb else [moved]), *verb[1:])
        assert done.code == 0, done.err


def rewrite_config(run: Path, old: str, new: str) -> None:
    """Replace a text in config.yaml as if the run had been started with it."""
    text = (run / "config.yaml").read_text(encoding="utf-8")
    assert old in text
    (run / "config.yaml").write_text(text.replace(old, new), encoding="utf-8")
    provenance = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(provenance | {"config_sha256": sha256(run / "config.yaml")}))


@pytest.mark.slow
def test_photos_of_another_root_are_refused(script, run, trained, tmp_path, monkeypatch):
    """The same people and ids; a photo of one differs. Then nothing may be measured on it and kept."""
    monkeypatch.setattr(two_sample, "MIN_COMPARED_PEOPLE", 3)
    copy = Path(shutil.copytree(trained.raw, tmp_path / "copy"))
    photos = [next((copy / "train" / "images").glob("*/normal.*")), next((copy / "eval" / "images").glob("[!.]*.*"))]
    for photo, verbs in ((photos[0], ("evaluate", "submit", "audit")), (photos[1], ("evaluate", "submit"))):
        content = photo.read_bytes()
        photo.write_bytes(content + b"\0")
        for verb in verbs:
            done = script(verb, run, "--data.root", copy, *(["--out", "a.csv"] if verb == "submit" else []))
            refused(done, f"--data.root {copy}", "photos differ")
        photo.write_bytes(content)
    assert not (trained.prepared / "shift.json").exists()
    for verb in ("evaluate", "audit"):
        done = script(verb, run, "--data.root", copy)
        assert done.code == 0, done.err


def test_data_that_another_user_keeps_private_is_missing_data(script, run, monkeypatch):
    """Its folder can be entered, but the files in it cannot be read."""

    def refuse(folder, places):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(run_data, "load_prepared", refuse)
    assert script("evaluate", run).code == 0
    refused(script("report", run), os.strerror(errno.EACCES))


def test_a_wrong_flag_is_an_error_and_missing_data_is_none(script, run, trained, tmp_path):
    refused(script("evaluate", run, "--data.prepared", "typo"), "--data.prepared typo", "dataset.json")
    refused(script("evaluate", run, "--data.root", "typo"), "typo")
    rewrite_config(run, str(trained.prepared), GONE)
    assert script("evaluate", run).code == 0
    refused(script("evaluate", run, "--data.root", trained.raw), GONE, "no longer there")


def test_the_advice_to_prepare_again_names_the_corrections(script, run, trained):
    rewrite_config(run, str(trained.prepared), GONE)
    refused(script("report", run), "same folds and corrections", "--folds 2 --seed 42)")
    rewrite_config(run, "corrections: null", "corrections: my fixes.csv")
    refused(script("report", run), "--folds 2 --seed 42 --corrections 'my fixes.csv'")


def test_the_root_is_recorded_not_a_prepared_folder_of_its_name(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = raw.rename("data")
    folder = Path("data/prepared/data")
    prepare(find_layout(root), folder)
    config, cpu = Config(), torch.device("cpu")
    resolved = resolve_config(config, Path("runs/a"), load_prepared(folder), cpu)
    assert (resolved.data.root, resolved.data.prepared) == (Path("data"), folder)
    # Without the raw data the recorded place stays.
    root.joinpath("train").rename("gone")
    assert resolve_config(config, Path("runs/a"), load_prepared(folder), cpu).data.root == Path("data")


def test_a_submission_does_not_need_the_training_photos(script, moved, monkeypatch):
    """They are in the store; only the comparison with the eval photos would read them."""
    monkeypatch.setattr(two_sample, "MIN_COMPARED_PEOPLE", 3)
    # Another test may have compared the photos of the folder that this one is a copy of.
    (moved.parent.parent / "prepared" / "shift.json").unlink(missing_ok=True)
    (moved.parent.parent / "원본 raw" / "train").rename(moved.parent.parent / "elsewhere")
    for args in (("submit", moved, "--out", "a.csv"), ("evaluate", moved)):
        done = script(*args)
        assert done.code == 0, done.err
        assert "note: skipped the comparison of training and eval photos" in done.out
    assert json.loads(Path("a.json").read_text())["shift"] is None


@pytest.mark.slow
def test_data_that_is_not_found_is_named_with_the_flags(script, moved, tmp_path):
    prepared = Path(shutil.move(moved.parent.parent / "prepared", tmp_path / "p elsewhere"))
    for verb in ("submit", "report", "audit"):
        done = script(verb, moved, *(["--out", "a.csv"] if verb == "submit" else []))
        refused(done, f"{GONE}/prepared", "no longer there", "--data.prepared", "--data.root")
        assert "delete" not in done.err
    assert script("evaluate", moved).code == 0
    raw = Path(shutil.move(moved.parent.parent / "원본 raw", tmp_path / "r elsewhere"))
    flags = ("--data.prepared", prepared)
    assert script("report", moved, *flags).code == 0
    # The photos are in the store, but the audit compares portraits and the submission needs info.csv.
    for verb in ("submit", "audit"):
        refused(script(verb, moved, *flags), "원본 raw", "no longer at this path", "--data.root")
    for verb in ("submit", "audit", "evaluate", "report"):
        done = script(verb, moved, *flags, "--data.root", raw)
        assert done.code == 0, done.err
    refused(script("report", moved, "--data.prepared", "nowhere"), "--data.prepared nowhere", "dataset.json")
    refused(script("audit", moved, *flags, "--data.root", "nowhere"), "--data.root nowhere")


@pytest.mark.slow
def test_a_prepared_folder_is_known_by_its_content(script, moved, trained, tmp_path):
    """Prepared anew with the same folds it is accepted, with other folds or labels refused."""
    shutil.rmtree(moved.parent.parent / "prepared")
    for name, folds, seed in (("same", 2, 42), ("other", 2, 7)):
        assert script("prepare", "--data", trained.raw, "--out", name, "--folds", folds, "--seed", seed).code == 0
    done = script("report", moved, "--data.prepared", "same")
    assert done.code == 0, done.err
    done = script("report", moved, "--data.prepared", "other")
    refused(done, "other", "was trained", "--data.prepared")
    assert "delete" not in done.err
    # The message of a missing folder names these flags: then --data.root alone finds the default folder.
    assert script("prepare", "--data", trained.raw, "--folds", 2, "--seed", 42).code == 0
    done = script("report", moved, "--data.root", trained.raw)
    assert done.code == 0, done.err


def test_a_project_is_trained_with_relative_places(script, raw, tmp_path, monkeypatch):
    """An unfinished run is resumed after a move; the finished run has the same hash and config as an unmoved one."""
    for name in ("unmoved", "before"):
        shutil.copytree(raw, tmp_path / name / "data")
    args = tiny_args(Path("data"), "--name", "a", "--folds", 0)
    monkeypatch.chdir(tmp_path / "unmoved")
    assert script("train", *args).code == 0
    monkeypatch.chdir(tmp_path / "before")
    log = fold_trainer.WandbLogger.log

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fold_trainer.WandbLogger, "log", stop)
        assert script("train", *args).code == 130
    assert fold_trainer.WandbLogger.log is log
    (tmp_path / "before").rename(tmp_path / "after")
    monkeypatch.chdir(tmp_path / "after")
    done = script("train", *args)
    assert done.code == 0, done.err
    assert "fold0 resumes after epoch 1" in done.err
    run, unmoved = Path("runs/a"), tmp_path / "unmoved" / "runs" / "a"
    for file in ("config.yaml", "oof.npz", "fold0/model.safetensors"):
        assert (run / file).read_bytes() == (unmoved / file).read_bytes()
    assert metrics_of(run / "fold0") == metrics_of(unmoved / "fold0")
    assert str(tmp_path) not in (run / "config.yaml").read_text()


def test_an_unfinished_fold_is_resumed_after_the_schema_gained_a_key(script, synthetic, monkeypatch):
    """config_hash differs from that at the start, but the keys that existed then are equal."""
    args = tiny_args(synthetic, "--name", "a", "--folds", 0)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(provenance_module, "config_hash", lambda config: "of another schema")
        patch.setattr(fold_trainer.WandbLogger, "log", stop)
        assert script("train", *args).code == 130
    done = script("train", *args)
    assert done.code == 0, done.err
    assert "fold0 resumes after epoch 1" in done.err


def test_changed_weights_of_the_same_name_are_another_configuration(script, synthetic, trained, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(trained.run.weights_path("fold0"))
    backbone = {name.removeprefix("backbone."): t for name, t in tensors.items() if name.startswith("backbone.")}
    for folder, factor in (("a", 1.0), ("b", 1.0), ("c", 1.01)):
        (tmp_path / folder).mkdir()
        save_file({name: tensor * factor for name, tensor in backbone.items()}, tmp_path / folder / "w.safetensors")
    args = tiny_args(synthetic, "--name", "run", "--folds", 0, "--optim.epochs", 1, "--model.weights")
    assert script("train", *args, "a/w.safetensors").code == 0
    assert script("train", *args, "b/w.safetensors").code == 0
    refused(script("train", *args, "c/w.safetensors"), "model.weights", "content", "c/w.safetensors", "--fresh")


def test_caches_go_to_the_cache_folder(script, moved, trained, monkeypatch):
    prepared = moved.parent.parent / "prepared"
    shutil.rmtree(prepared / "store")
    before = {**contents(moved), **contents(prepared)}
    done = script("submit", moved, "--out", "a.csv", "--cache", "c")
    assert done.code == 0, done.err
    assert {**contents(moved), **contents(prepared)} == before
    assert len(list(Path("c/store").glob("*.npy"))) == 2
    assert sorted(path.name for path in Path("c").glob("tiny-*/*")) == ["eval-none.npz", "oof-none.npz"]
    monkeypatch.setattr(predict_members, "predict_members", None)
    done = script("submit", moved, "--out", "b.csv", "--cache", "c")
    assert done.code == 0, done.err
    assert Path("b.csv").read_bytes() == Path("a.csv").read_bytes()


@pytest.mark.slow
def test_every_output_has_a_place(script, moved, trained, tmp_path):
    prepared = moved.parent.parent / "prepared"
    second = shutil.copytree(trained.run.folder, tmp_path / "second")
    before = {**contents(moved), **contents(prepared)}
    for words, files in (
        (("evaluate", moved, "--out", "e"), ["e/reliability.png"]),
        (("evaluate", moved, second, "--out", "es"), ["es/tiny/reliability.png", "es/second/reliability.png"]),
        (("report", moved, "--out", "r/page.html"), ["r/page.html"]),
        (("report", moved, "--out", "rs"), ["rs/report.html"]),
        (("audit", moved, "--out", "a"), ["a/audit.html", "a/corrections.csv", "a/suspects.csv", "a/duplicates.csv"]),
    ):
        done = script(*words)
        assert done.code == 0, done.err
        assert all(Path(file).is_file() for file in files)
    assert {**contents(moved), **contents(prepared)} == before
    assert Path("r/page.html").read_bytes() == Path("rs/report.html").read_bytes()
    assert GONE not in Path("rs/report.html").read_text(encoding="utf-8").partition("<h2>Configuration")[0]
    flags = ("--data.root", trained.raw, "--data.prepared", prepared)
    done = script("baselines", ROOT / "configs" / "demo.yaml", *flags, "--out", "b/scores.json")
    assert done.code == 0, done.err
    assert Path("b/scores.json").is_file()
    # As a cache, the scores are found by evaluate.
    assert script("baselines", ROOT / "configs" / "demo.yaml", *flags, "--cache", "c").code == 0
    assert "nearest class mean image" in script("evaluate", moved, "--cache", "c").out
    assert "nearest class mean image" not in script("evaluate", moved).out
    done = script("train", *tiny_args(trained.raw, "--out", "deep/run", "--folds", 0, "--optim.epochs", 1))
    assert done.code == 0, done.err
    assert json.loads(Path("deep/run/summary.json").read_text())["name"] == "run"
    refused(script("train", *tiny_args(trained.raw, "--out", "x", "--name", "y")), "--out", "--name")


@pytest.mark.parametrize(
    "words",
    [("submit", "--out", "/proc/self/a.csv"), ("report", "--out", "/proc/self/a"), ("audit", "--out", "/proc/a")],
)
def test_an_output_that_cannot_be_written_is_an_error_before_predicting(script, moved, monkeypatch, words):
    monkeypatch.setattr(predict_members, "predict_members", None)
    refused(script(words[0], moved, *words[1:]), "/proc/", "--out")


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "--out", "file/s.csv"),
        ("submit", "--out", "folder.csv"),
        ("submit", "--cache", "file"),
        ("report", "--out", "file"),
        ("report", "--out", "folder.html"),
        ("audit", "--out", "file"),
    ],
)
def test_an_output_whose_place_is_taken_is_an_error_before_predicting(script, moved, monkeypatch, words):
    Path("file").write_text("mine")
    Path("folder.csv").mkdir()
    Path("folder.html").mkdir()
    monkeypatch.setattr(predict_members, "predict_members", None)
    refused(script(words[0], moved, *words[1:]), words[1], "is a folder" if "folder" in words[2] else "is not a folder")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("report", "--out", "pages"), "tiny"),
        (("report", "--out", "pages"), "comparison"),
        (("evaluate", "--out", "e"), "tiny"),
    ],
)
def test_outputs_of_one_name_are_refused(script, moved, trained, words, name):
    first = moved.rename(moved.with_name(name))
    other = trained.run.folder if name == "tiny" else moved.with_name("second")
    if name != "tiny":
        shutil.copytree(first, other)
    refused(script(words[0], first, other, *words[1:]), "--out", f"the name {name}")
    assert not Path(words[2]).exists()


def test_a_manifest_is_rebuilt_where_its_runs_are_now(script, moved, tmp_path, monkeypatch):
    home = moved.parent.parent
    monkeypatch.chdir(home)
    assert script("submit", "runs/tiny", "--out", "submissions/a.csv").code == 0
    assert json.loads(Path("submissions/a.json").read_text())["members"][0]["folder"] == "runs/tiny"
    before = Path("submissions/a.csv").read_bytes()
    # Another run of this name in the working directory has other checkpoints.
    other = Path(shutil.copytree(moved, tmp_path / "cwd" / "runs" / "tiny"))
    shutil.copy(other / "fold0" / "model.safetensors", other / "fold1" / "model.safetensors")
    monkeypatch.chdir(tmp_path / "cwd")
    done = script("submit", "--from", home / "submissions" / "a.json", "--out", "again.csv")
    assert done.code == 0, done.err
    assert Path("again.csv").read_bytes() == before
    shutil.move(moved, tmp_path / "my runs" / "tiny")
    shutil.rmtree(other)
    refused(script("submit", "--from", home / "submissions" / "a.json"), "a.json", "tiny", "--runs")
    flags = ("--runs", tmp_path / "my runs", "--data.prepared", home / "prepared", "--out", "third.csv")
    done = script("submit", "--from", home / "submissions" / "a.json", *flags)
    assert done.code == 0, done.err
    assert Path("third.csv").read_bytes() == before
    refused(script("submit", tmp_path / "my runs" / "tiny", "--runs", "x"), "--runs", "--from")


CONFIG = """
data: {root: data/demo, folds: 2, image_size: [32, 32]}
model: {backbone: test_convnext}
optim: {epochs: 2, warmup_epochs: 0, batch_size: 16}
run: {wandb: disabled, device: cpu}
"""
PREDICT = """
import sys, maskfold
maskfold.load_run(sys.argv[1]).predict(sys.argv[2:], ("none", "hflip")).to_csv(sys.stdout)
"""
VIEWS = ("--tta", "none", "hflip")


def verbs(project: Path, out: Path) -> list[list[object]]:
    """Every verb on the project, writing into `out` only."""
    run = project / "runs" / "q"
    flags = ["--cache", out / "cache"]
    places = ["--data.root", project / "data" / "demo", "--data.prepared", project / "data" / "prepared" / "demo"]
    return [
        ["prepare", "--data", project / "data" / "demo", "--out", out / "prepared", "--folds", 2],
        ["train", project / "q.yaml", "--out", run, *places, *flags],
        ["evaluate", run, "--out", out, *flags],
        ["submit", run, *VIEWS, "--out", out / "s.csv", *flags],
        ["report", run, "--out", out / "report.html", *flags],
        ["audit", run, "--out", out / "audit", *flags],
        ["submit", "--from", project / "submissions" / "q.json", "--out", out / "rebuilt.csv", *flags],
    ]


def without_time(manifest: Path) -> dict:
    """A manifest without when it was written and where the run lay."""
    content = without_date(manifest)
    for member in content["members"]:
        del member["folder"]
    return content | {"name": ""}


def without_date(manifest: Path) -> dict:
    """A manifest without the date, and without `inputs`, which contains a hash of the whole manifest."""
    content = json.loads(manifest.read_text())
    # A submission whose predictions could not be kept has no inputs.
    content.pop("inputs", None)
    del content["created"]
    return content


def assert_same_results(out: Path, project: Path, first: Path) -> None:
    for name in ("images.csv", "folds.csv", "eval.csv"):
        assert (out / "prepared" / name).read_bytes() == (project / "data" / "prepared" / "demo" / name).read_bytes()
    for name in ("s.csv", "rebuilt.csv"):
        assert (out / name).read_bytes() == (first / "q.csv").read_bytes()
    assert without_time(out / "s.json") == without_time(first / "q.json")
    assert (out / "report.html").read_bytes() == (first / "report.html").read_bytes()
    assert (out / "reliability.png").read_bytes() == (first / "reliability.png").read_bytes()
    assert contents(out / "audit") == contents(first / "audit")


@pytest.mark.slow
def test_a_finished_project_elsewhere_gives_the_same_bytes(script, raw, tmp_path, monkeypatch):
    """Copied elsewhere; then mounted read-only, with outputs elsewhere, in another process."""
    project, first = tmp_path / "before", tmp_path / "first"
    shutil.copytree(raw, project / "data" / "demo")
    (project / "q.yaml").write_text(CONFIG)
    monkeypatch.chdir(project)
    for words in (
        ["prepare", "--data", "data/demo", "--folds", 2],
        ["train", "q.yaml"],
        ["evaluate", "q"],
        ["submit", "q", *VIEWS],
        ["report", "q"],
        ["audit", "q"],
    ):
        done = script(*words)
        assert done.code == 0, done.err
    first.mkdir()
    for path in [*Path("submissions").glob("q.*"), *map(Path("runs/q").joinpath, ("report.html", "reliability.png"))]:
        shutil.copy(path, first)
    shutil.copytree("runs/q/audit", first / "audit")
    # What is compared is computed again, not copied.
    results = contents(project / "runs" / "q")
    for path in [*Path("runs/q").glob("*-*.npz"), *Path("runs/q").glob("*.html"), Path("runs/q/reliability.png")]:
        path.unlink()
    for folder in ("runs/q/audit", "data/prepared/demo/store"):
        shutil.rmtree(folder)
    prepared = contents(project / "data" / "prepared" / "demo")
    monkeypatch.chdir(tmp_path)
    project = project.rename(tmp_path / "after")

    # The same commands in the new place write the same files.
    copy = Path(shutil.copytree(project, tmp_path / "copy"))
    monkeypatch.chdir(copy)
    for words in (
        ["prepare", "--data", "data/demo"],
        ["train", "q.yaml"],
        ["evaluate", "q"],
        ["submit", "q", *VIEWS],
        ["report", "q"],
        ["audit", "q"],
    ):
        done = script(*words)
        assert done.code == 0, done.err
        assert "already finished" in done.err or words[0] != "train"
    assert contents(copy / "runs" / "q") == results
    assert {name: (copy / "data/prepared/demo" / name).read_bytes() for name in prepared} == prepared
    assert without_date(copy / "submissions" / "q.json") == without_date(first / "q.json")
    inputs = [json.loads((folder / "q.json").read_text())["inputs"] for folder in (copy / "submissions", first)]
    assert inputs[0].split()[0] == inputs[1].split()[0]
    assert (copy / "submissions" / "q.csv").read_bytes() == (first / "q.csv").read_bytes()

    # From another working directory, with other places for the outputs.
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    before = contents(project)
    for words in verbs(project, out):
        done = script(*words)
        assert done.code == 0, done.err
    assert contents(project) == before
    assert_same_results(out, project, first)

    # Read-only, in processes of their own, first without --cache.
    out = tmp_path / "read-only"
    (out / "cache").mkdir(parents=True)
    mount = read_only_mount(project)
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}

    def run(*words: object) -> subprocess.CompletedProcess:
        return subprocess.run([*mount, *map(str, words)], cwd=out, env=env, capture_output=True, text=True)

    assert run("touch", project / "a").returncode != 0
    for words in verbs(project, out):
        words = words[: words.index("--cache")] if "--cache" in words and words[0] == "submit" else words
        done = run(sys.executable, ROOT / "scripts" / f"{words[0]}.py", *words[1:])
        assert done.returncode == 0, done.stderr
        if words[0] == "submit":
            assert done.stderr.count("so the predictions will not be kept") == 1
    assert_same_results(out, project, first)
    # What is finished already stays as it is.
    itself = ["--data", project / "data" / "demo", "--out", project / "data" / "prepared" / "demo"]
    done = run(sys.executable, ROOT / "scripts" / "prepare.py", *itself)
    assert done.returncode == 0, done.stderr
    # Without flags for the outputs the message names the place and the flag.
    for verb in ("report", "audit"):
        done = run(sys.executable, ROOT / "scripts" / f"{verb}.py", project / "runs" / "q")
        assert done.returncode == 2
        assert "--out" in done.stderr
        assert "Traceback" not in done.stderr
    done = run(sys.executable, ROOT / "scripts" / "evaluate.py", project / "runs" / "q")
    assert done.returncode == 0, done.stderr
    assert "--out" in done.stderr

    # The run folder alone predicts.
    photos = [str(path) for path in sorted((raw / "eval" / "images").glob("[!.]*"))[:5]]
    expected_table = maskfold.load_run(copy / "runs" / "q").predict(photos, ("none", "hflip"))
    alone = Path(shutil.move(project / "runs" / "q", tmp_path / "alone"))
    shutil.rmtree(project)
    mount = read_only_mount(alone)
    done = run(sys.executable, "-c", PREDICT, alone, *photos)
    assert done.returncode == 0, done.stderr
    (out / "table.csv").write_text(done.stdout)
    table = pd.read_csv(out / "table.csv", index_col=0)
    assert table.label.tolist() == expected_table.label.tolist()
    np.testing.assert_allclose(table.p_male, expected_table.p_male, rtol=1e-6)
