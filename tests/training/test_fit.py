"""Training with scripts/train.py on tiny data: the run folder, finished and resumed runs, and errors."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, TINY, refused, tiny_args
from safetensors import safe_open
from sklearn.metrics import f1_score
from support import PATIENCE, metrics_of, start, wait_for

from maskfold.fileio import sha256
from maskfold.metrics.scores import METRICS
from maskfold.probabilities import load_predictions
from maskfold.runs.run_folder import RunFolder
from maskfold.runs.summary import SELECTED, summarise
from maskfold.training import fold_trainer


def test_the_run_folder_has_the_documented_format(trained):
    folder = trained.run.folder
    for name in (
        "config.yaml",
        "summary.json",
        "oof.npz",
        "fold0/model.safetensors",
        "fold1/metrics.jsonl",
        "fold1/oof.npz",
    ):
        assert (folder / name).is_file(), name
    assert not list(folder.rglob("last.pt"))
    with np.load(folder / "oof.npz", allow_pickle=False) as oof:
        assert set(oof.files) == {"image_id", "probs", "label", "fold", "person_id"}
        assert oof["image_id"].dtype.kind == oof["person_id"].dtype.kind == "U"
        assert oof["probs"].dtype == np.float32
        np.testing.assert_allclose(oof["probs"].sum(1), 1, atol=1e-5)
        images = pd.read_csv(trained.prepared / "images.csv")
        assert oof["image_id"].tolist() == images.image_id.tolist()
        assert oof["label"].tolist() == images.label.tolist()
        folds = pd.read_csv(trained.prepared / "folds.csv").set_index("person_id").fold
        assert oof["fold"].tolist() == folds[oof["person_id"]].tolist()
    rows = metrics_of(folder / "fold0")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {
        "lr",
        "train_loss",
        "val_loss",
        "macro_f1",
        "accuracy",
        "mask_accuracy",
        "gender_accuracy",
        "age_accuracy",
    } <= set(rows[0])
    with safe_open(folder / "fold0" / "model.safetensors", "pt") as weights:
        assert any(key.startswith("backbone.") for key in weights.keys())  # noqa: SIM118 - it is no dict


def test_the_summary_is_the_official_metric_over_the_whole_set(trained):
    summary = json.loads((trained.run.folder / "summary.json").read_text())
    oof = load_predictions(trained.run.folder / "oof.npz", out_of_fold=True)
    expected = f1_score(oof.label, oof.probs.argmax(1), labels=range(18), average="macro", zero_division=0)
    assert summary["oof"]["macro_f1"] == pytest.approx(expected)
    assert {"macro_f1", "accuracy", "mask_accuracy", "gender_accuracy", "age_accuracy", "age_f1"} <= set(METRICS)
    assert set(summary["oof"]) == {*METRICS, *(f"{name}_ci95" for name in METRICS), "board95", "board_half95"}
    assert {"name", "oof", "folds", "dataset", "config_hash", "git_commit", "versions"} <= set(summary)
    for row in summary["folds"]:
        assert {"fold", "macro_f1", "best_epoch", "seconds", "images_per_second"} <= set(row)
    low, high = summary["oof"]["board95"]
    assert 0 <= low < high <= 1
    assert summary["selection"] == "last epoch"


def test_the_resolved_config_has_no_auto_precision(trained):
    config = yaml.safe_load((trained.run.folder / "config.yaml").read_text())
    assert config["run"]["precision"] == "fp32"
    assert config["run"]["predict_precision"] in ("fp32", "bf16")
    assert Path(config["data"]["root"]) == trained.raw.resolve()


def test_finished_folds_are_skipped(script, trained, monkeypatch):
    monkeypatch.setenv("SM_MODEL_DIR", str(trained.run.folder.parent))
    before = {path: path.stat().st_mtime_ns for path in trained.run.folder.glob("fold*/*")}
    done = script("train", *tiny_args(trained.raw, "--name", "tiny", "--data.prepared", trained.prepared))
    assert done.code == 0, done.err
    assert done.err.count("already finished") == 2
    assert {path: path.stat().st_mtime_ns for path in trained.run.folder.glob("fold*/*")} == before


def test_folds_are_trained_by_number_and_then_the_others(script, synthetic):
    done = script("train", *tiny_args(synthetic, "--name", "part", "--folds", 1))
    assert done.code == 0, done.err
    assert "not all folds" in done.out
    folder = Path("runs/part")
    assert not (folder / "fold0").exists()
    assert set(load_predictions(folder / "oof.npz").fold) == {1}
    refused(script("train", *tiny_args(synthetic, "--name", "part", "--folds", 2)), "--folds 2", "0 to 1")
    refused(script("train", *tiny_args(synthetic, "--name", "part", "--folds", -1)), "--folds")
    assert script("train", *tiny_args(synthetic, "--name", "part")).code == 0
    assert set(load_predictions(folder / "oof.npz").fold) == {0, 1}


def test_another_config_is_an_error_with_the_differing_keys(script, trained, monkeypatch):
    monkeypatch.setenv("SM_MODEL_DIR", str(trained.run.folder.parent))
    before = {path: path.read_bytes() for path in trained.run.folder.rglob("*") if path.is_file()}
    args = tiny_args(trained.raw, "--name", "tiny", "--data.prepared", trained.prepared)
    refused(script("train", *args, "--optim.lr", "0.5", "--seed", 3), "optim.lr", "0.5", "seed", "--fresh", "--name")
    assert {path: path.read_bytes() for path in trained.run.folder.rglob("*") if path.is_file()} == before
    same = script("train", *args, "--data.num_workers", 1, "--run.wandb", "offline")
    assert same.code == 0, same.err


def test_fresh_deletes_a_run_only_if_the_new_one_can_start(script, synthetic):
    args = tiny_args(synthetic, "--name", "fresh", "--folds", 0)
    assert script("train", *args).code == 0
    kept = Path("runs/fresh/fold0/model.safetensors").read_bytes()
    refused(script("train", *args, "--fresh", "--model.backbone", "resnet19"), "model.backbone")
    assert Path("runs/fresh/fold0/model.safetensors").read_bytes() == kept
    done = script("train", *args, "--fresh", "--seed", 9)
    assert done.code == 0, done.err
    assert Path("runs/fresh/fold0/model.safetensors").read_bytes() != kept


def test_a_run_that_another_process_writes_is_an_error(script, synthetic, tmp_path):
    folder = tmp_path / "runs" / "locked"
    code = f"from maskfold.locks import locked\nfrom pathlib import Path\nwith locked(Path({str(folder)!r}), 'x'):\n print('locked', flush=True)\n input()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "locked\n"
    refused(script("train", *tiny_args(synthetic, "--name", "locked")), "another process", "--name")
    holder.communicate("\n")


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "a b\n"])
def test_an_invalid_run_name_is_an_error(script, synthetic, name):
    refused(script("train", *tiny_args(synthetic), f"--name={name}"), "run name")


def test_a_copied_run_keeps_a_name_that_a_new_run_may_not_have(script, trained):
    shutil.copytree(trained.run.folder, "runs/tiny copy")
    args = tiny_args(trained.raw, "--data.prepared", trained.prepared)
    for flag in (("--out", "runs/tiny copy"), ("--name", "tiny copy")):
        done = script("train", *args, *flag)
        assert done.code == 0, done.err
        assert "fold1: already finished" in done.err
    refused(script("train", *args, "--out", "runs/new copy"), "--out 'runs/new copy'", "another --out")
    assert not Path("runs/new copy").exists()


def test_a_damaged_or_foreign_checkpoint_is_an_error(script, synthetic, monkeypatch):
    """The run fails after its first epoch, which leaves a checkpoint."""
    args = tiny_args(synthetic, "--name", "broken", "--folds", 0)

    def fail(*_):
        raise RuntimeError("failed")

    with monkeypatch.context() as patch:
        patch.setattr(fold_trainer.WandbLogger, "log", fail)
        with pytest.raises(RuntimeError, match="failed"):
            script("train", *args)
    state = Path("runs/broken/fold0/state/last.pt")
    good = state.read_bytes()
    for bad in (good[: len(good) // 2], b"", b"no checkpoint"):
        state.write_bytes(bad)
        refused(script("train", *args), "last.pt", "delete")
        assert state.read_bytes() == bad
    state.write_bytes(good)
    content = torch.load(state, weights_only=True)
    torch.save(content | {"identity": "another run"}, state)
    refused(script("train", *args), "last.pt", "another run")
    # The keys of an older version.
    old_keys = {"identity": "belongs", "train_state": "trainee", "sums": "total"}
    for old in ({old_keys.get(key, key): value for key, value in content.items()}, [1]):
        torch.save(old, state)
        refused(script("train", *args), "last.pt", "another version", "delete")
    state.write_bytes(good)
    assert script("train", *args).code == 0
    assert [row["epoch"] for row in metrics_of(Path("runs/broken/fold0"))] == [1, 2]


def test_changed_data_is_an_error(script, raw):
    args = tiny_args(raw, "--name", "data", "--data.prepared", "p", "--folds", 0)
    assert script("train", *args).code == 0
    table = pd.read_csv(raw / "train" / "train.csv", dtype=str)
    Path("fix.csv").write_text(f"person_id,field,value,reason\n{table.path[7]},swap,incorrect_mask|normal,so\n")
    assert script("prepare", "--data", raw, "--out", "p", "--corrections", "fix.csv").code == 0
    refused(script("train", *args), "data", "have changed")


def test_a_nan_loss_stops_the_run(script, synthetic):
    result = script("train", *tiny_args(synthetic, "--name", "hot", "--folds", 0, "--optim.lr", "1e30"))
    # Other keys are refused for a started run.
    refused(result, "loss", "epoch", "optim.lr", "--fresh", "--name")


def test_the_number_of_workers_changes_no_probability(script, synthetic):
    probs = []
    for workers in (0, 1, 3):
        args = tiny_args(
            synthetic, "--name", f"w{workers}", "--data.num_workers", workers, "--folds", 0, "--model.drop_rate", 0.5
        )
        assert script("train", *args).code == 0
        probs.append(load_predictions(Path(f"runs/w{workers}/oof.npz")).probs)
    assert np.array_equal(probs[0], probs[1])
    assert np.array_equal(probs[0], probs[2])


def test_keep_best_saves_the_best_epoch_and_reports_it(script, synthetic, trained):
    args = tiny_args(
        synthetic, "--name", "best", "--folds", 0, "--run.keep", "best", "--optim.lr", "0.05", "--optim.epochs", 3
    )
    done = script("train", *args)
    assert done.code == 0, done.err
    assert SELECTED in done.out
    summary = json.loads(Path("runs/best/summary.json").read_text())
    assert summary["selection"] == SELECTED
    rows = metrics_of(Path("runs/best/fold0"))
    assert summary["oof"]["macro_f1"] == pytest.approx(max(row["macro_f1"] for row in rows))


def test_the_organisers_environment_variables_set_the_folders(script, synthetic, monkeypatch, tmp_path):
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(synthetic / "train" / "images"))
    monkeypatch.setenv("SM_CHANNEL_EVAL", str(synthetic / "eval"))
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "model"))
    (tmp_path / "x.yaml").write_text("")
    tiny = [arg for arg in tiny_args("", "--folds", 0)[1:] if arg not in ("--data.root", "")]
    done = script("train", "x.yaml", *tiny)
    assert done.code == 0, done.err
    assert (tmp_path / "model" / "x" / "oof.npz").exists()


def test_the_summary_needs_every_file(trained, tmp_path):
    folder = Path(shutil.copytree(trained.run.folder, tmp_path / "tiny"))
    (folder / "fold0" / "metrics.jsonl").unlink()
    from maskfold.errors import UserError

    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        summarise(RunFolder(folder))


def test_other_folds_are_an_error_in_training_and_submitting(script, synthetic):
    """New folds would move people of the training set into the validation set."""
    args = tiny_args(synthetic, "--name", "leak", "--data.prepared", "p")
    assert script("train", *args, "--folds", 0).code == 0
    shutil.rmtree("p")
    assert script("prepare", "--data", synthetic, "--out", "p", "--folds", 2, "--seed", 7).code == 0
    refused(script("train", *args), "leak")
    refused(script("submit", "leak", "--out", "a.csv"), "folds", "changed")
    assert not Path("a.csv").exists()


def test_a_folder_that_is_not_a_run_is_never_deleted(script, synthetic, tmp_path, monkeypatch):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "thesis.tex").write_text("precious")
    for more in ([], ["--fresh"]):
        refused(script("train", *tiny_args(synthetic, "--name", "mine", *more)), "thesis.tex", "--name")
    assert (tmp_path / "runs" / "mine" / "thesis.tex").read_text() == "precious"
    monkeypatch.setenv("SM_MODEL_DIR", "")
    assert script("train", *tiny_args(synthetic, "--name", "empty", "--folds", 0)).code == 0
    assert (tmp_path / "runs" / "empty").is_dir()


def test_a_run_of_an_older_schema_can_be_finished(script, trained, tmp_path):
    """A run that was started before `data.face_margin` existed can be finished and submitted."""
    run = Path(shutil.copytree(trained.run.folder, tmp_path / "runs" / "older"))
    lines = [line for line in (run / "config.yaml").read_text().splitlines(True) if "face_margin" not in line]
    (run / "config.yaml").write_text("".join(lines))
    provenance = json.loads((run / "provenance.json").read_text())
    provenance |= {"config_sha256": sha256(run / "config.yaml"), "config_hash": "of another schema"}
    (run / "provenance.json").write_text(json.dumps(provenance))
    done = script("submit", "older", "--out", "a.csv")
    assert done.code == 0, done.err
    again = script("train", ROOT / "configs" / "demo.yaml", *TINY, "--data.root", trained.raw, "--name", "older")
    assert again.code == 2 and "data.folds" in again.err
    places = ("--data.prepared", trained.prepared, "--data.folds", 2)
    again = script(
        "train", ROOT / "configs" / "demo.yaml", *TINY, "--data.root", trained.raw, *places, "--name", "older"
    )
    assert again.code == 0, again.err
    assert again.err.count("already finished") == 2


def test_copied_folds_have_no_seed(script, synthetic, trained, tmp_path):
    """A prepared folder whose folds.csv was copied from another one: the run is trained and evaluated."""
    (tmp_path / "p").mkdir()
    shutil.copy(trained.prepared / "folds.csv", tmp_path / "p")
    assert script("prepare", "--data", synthetic, "--out", "p").code == 0
    done = script("train", *tiny_args(synthetic, "--data.prepared", "p", "--name", "theirs", "--optim.epochs", 1))
    assert done.code == 0, done.err
    assert script("evaluate", "theirs").code == 0


def test_an_empty_config_is_an_error_in_evaluate(script, trained, tmp_path):
    run = Path(shutil.copytree(trained.run.folder, tmp_path / "runs" / "emptied"))
    (run / "config.yaml").write_text("")
    refused(script("evaluate", "emptied"), "config.yaml", "edited", "restore")


def test_an_edited_config_is_an_error(script, trained, tmp_path):
    run = Path(shutil.copytree(trained.run.folder, tmp_path / "runs" / "edited"))
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("crop: center", "crop: none"))
    refused(script("submit", "edited", "--out", "a.csv"), "config.yaml", "edited")


@pytest.mark.parametrize("where", ["weights", "probabilities"])
def test_nan_weights_or_probabilities_are_an_error(script, synthetic, monkeypatch, where):
    """The loss of the last update is finite, but the weights or probabilities after it are not."""
    if where == "weights":

        def poison(train_state, *_):
            next(train_state.model.parameters()).data.fill_(float("nan"))
            return torch.tensor(1.0)

        monkeypatch.setattr(fold_trainer, "training_step", poison)
    else:
        monkeypatch.setattr(
            fold_trainer.FoldData, "predict", lambda self, *_: (None, np.full((42, 18), np.nan, np.float32))
        )
    result = script("train", *tiny_args(synthetic, "--name", "hot", "--folds", 0))
    refused(result, "NaN or infinity", "optim.lr")
    assert not Path("runs/hot/fold0/oof.npz").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--model.backbone", "resnet18.bogus"], ["resnet18.bogus", "model.backbone"]),
        (["--model.backbone", "inception_v3"], ["data.image_size"]),
        (
            ["--model.backbone", "test_resnet", "--optim.batch_size", 8, "--optim.accum_steps", 8],
            ["optim.batch_size", "batch norm"],
        ),
        (
            ["--model.backbone", "test_resnet", "--model.grad_checkpointing", "true", "--optim.name", "sdg"],
            ["optim.name", "sgd"],
        ),
    ],
)
def test_incompatible_options_are_an_error(script, synthetic, more, words):
    refused(script("train", *tiny_args(synthetic, "--name", "no", *more)), *words)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("fold0/model.safetensors", b""),
        ("fold0/model.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "),
        ("provenance.json", b"{}"),
        ("config.yaml", b""),
    ],
)
def test_a_damaged_run_is_an_error_in_submit(script, trained, tmp_path, file, content):
    run = Path(shutil.copytree(trained.run.folder, tmp_path / "runs" / "damaged"))
    (run / file).write_bytes(content)
    refused(
        script("submit", "damaged", "--out", "a.csv"),
        file.rpartition("/")[2] if file != "config.yaml" else "config.yaml",
    )
    assert not Path("a.csv").exists()


@pytest.mark.parametrize("content", ["", "{}\n", "[1]\n", "\x00"])
def test_damaged_metrics_are_an_error(script, trained, tmp_path, content):
    run = Path(shutil.copytree(trained.run.folder, tmp_path / "runs" / "damaged"))
    (run / "fold0" / "metrics.jsonl").write_text(content)
    refused(script("evaluate", "damaged"), "metrics.jsonl")


def test_a_damaged_store_is_built_again(script, synthetic):
    args = tiny_args(synthetic, "--name", "s", "--data.prepared", "p", "--folds", 0)
    assert script("train", *args).code == 0
    next(Path("p/store").glob("center*.npy")).write_bytes(b"x")
    done = script("train", *args, "--fresh")
    assert done.code == 0, done.err
    assert "not a readable store" in done.err


def test_wandb_never_stops_a_run(script, synthetic, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "bogus")
    args = [arg if arg != "disabled" else "auto" for arg in tiny_args(synthetic, "--name", "w", "--folds", 0)]
    done = script("train", *args)
    assert done.code == 0, done.err
    assert "training continues without W&B" in done.err


def test_wandb_offline_writes_its_run_into_the_run_folder(script, synthetic, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    args = [arg if arg != "disabled" else "auto" for arg in tiny_args(synthetic, "--name", "w", "--folds", 0)]
    done = script("train", *args)
    assert done.code == 0, done.err
    assert list(Path("runs/w/wandb").glob("offline-run-*"))


@pytest.mark.slow
def test_a_stop_signal_ends_the_workers_without_error(synthetic, tmp_path):
    """SIGTERM to the whole process group, as a cluster sends it."""
    args = ("--data.num_workers", 2, "--optim.epochs", 300, "--folds", 0)
    process = start(synthetic, tmp_path, *args, start_new_session=True)
    wait_for(tmp_path / "runs" / "demo" / "fold0" / "state" / "last.pt", process)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert "Error" not in err


def test_keys_that_may_change_are_taken_from_the_new_command(script, synthetic, monkeypatch):
    """W&B, workers and device of a resumed run are those of the new command."""
    args = tiny_args(synthetic, "--name", "again")
    assert script("train", *args, "--folds", 0).code == 0
    seen = []
    original = fold_trainer.FoldData.__init__
    monkeypatch.setattr(
        fold_trainer.FoldData,
        "__init__",
        lambda self, config, *rest: (seen.append(config), original(self, config, *rest))[1],
    )
    assert script("train", *args, "--data.num_workers", 1, "--run.wandb", "offline").code == 0
    assert (seen[0].data.num_workers, seen[0].run.wandb, seen[0].run.precision) == (1, "offline", "fp32")
