"""The benchmarks run on tiny data; the tests check the form of their results, not the values.

They are marked long because no user runs a benchmark: run them after a change of one.
"""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT
from figure import draw
from startup import FINISHED

from maskfold.synthetic.demo_data import make_demo

SPEED = {
    "store_build_vs_full_decode",
    "store_build_vs_reduced_decode",
    "loader_128x96_vs_organisers",
    "loader_128x96_vs_timm_create_loader",
    "loader_128x96_vs_torchvision_v2",
    "loader_128x96_vs_cv2_albumentations",
    "loader_128x96_vs_bare_memory_map",
    "loader_224x168_vs_organisers",
    "training_vs_random_tensors",
    "prediction_5_folds_hflip_vs_forward_alone",
    "prediction_5_folds_hflip_vs_usual_way_pil",
    "prediction_5_folds_hflip_vs_usual_way_cv2",
}


@pytest.mark.long
def test_speed_is_measured_and_plotted(synthetic, tmp_path):
    groups = ("store", "loader", "training", "inference", "startup")
    out = tmp_path / "results.json"
    words = ["--data", synthetic, "--only", *groups, "--repeats", 1, "--backbone", "test_resnet", "--out", out]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "run.py", *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    assert {name for name, result in results.items() if result["unit"] == "images/s"} == SPEED
    assert sum(name.endswith("_vs_import_torch") for name in results) == len(FINISHED)
    for name, result in results.items():
        assert result["ratio"] == pytest.approx(result["ours"] / result["theirs"])
        assert result["n"] == 1
        assert f"| {name.replace('_', ' ')} |" in done.stdout
    assert out.with_name("results.png").read_bytes().startswith(b"\x89PNG")


def test_start_up_alone_has_no_figure(tmp_path):
    draw({"help_vs_import_torch": {"unit": "CPU s", "ratio": 0.1, "ours": 0.3, "theirs": 3.0}}, tmp_path / "a.png", "")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.long
def test_draws_are_disjoint_people_and_scored(tmp_path):
    make_demo(tmp_path / "raw", 60, 6, seed=1)
    words = ["--data", tmp_path / "raw", "--out", tmp_path / "draws", "--draws", 2, "--train-people", 20]
    words += ["--eval-people", 8, "--data.folds", 2, "--model.backbone", "test_resnet", "--data.image_size", 32, 32]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "draws.py", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "one fold's model inside board95: " in done.stdout
    people = [
        {path.name for path in (tmp_path / "draws" / f"draw{n}" / "raw" / "train" / "images").iterdir()} for n in (0, 1)
    ]
    eval_people = [
        {path.resolve().parent.name for path in (tmp_path / "draws" / f"draw{n}" / "raw" / "eval" / "images").iterdir()}
        for n in (0, 1)
    ]
    groups = [*people, *eval_people]
    assert [len(group) for group in groups] == [20, 20, 8, 8]
    assert len(set.union(*groups)) == 56


@pytest.mark.long
def test_blends_are_scored_on_the_held_out_people(tmp_path):
    make_demo(tmp_path / "raw", 60, 6, seed=1)
    words = ["--data", tmp_path / "raw", "--out", tmp_path / "draws", "--draws", 2, "--train-people", 20]
    words += ["--eval-people", 10, "--model.backbone", "test_resnet", "--data.folds", 2, "--optim.epochs", 2]
    done = benchmark("blends", words, tmp_path)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert "n = 2 draws" in rows[0]
    assert len(rows) == 1 + 3 + 5 + 1


@pytest.mark.long
def test_expected_scores_are_compared_with_those_of_other_people(tmp_path):
    make_demo(tmp_path / "raw", 50, 6, seed=1)
    words = ["--data", tmp_path / "raw", "--out", tmp_path / "sets", "--sets", 2, "--train-people", 20]
    words += ["--eval-people", 25, "--part-people", 10, "--members", 2, "--blend", "oof", "--decision", "macro-f1"]
    words += ["--data.folds", 2, "--model.backbone", "test_resnet", "--data.image_size", 32, 32, "--optim.epochs", 2]
    done = benchmark("expected_score_data", words, tmp_path)
    table = pd.read_csv(tmp_path / "sets" / "scores.csv")
    assert list(zip(table["set"], table.part, table.people, strict=True)) == [
        (number, *part) for number in (0, 1) for part in (("0", 10), ("1", 10), ("all", 25))
    ]
    assert ((table.low <= table.expected) & (table.expected <= table.high)).all()
    inside = ((table.low <= table.score) & (table.score <= table.high))[table.part != "all"].sum()
    assert f"parts: {inside} of 4 scores inside interval95" in done.stdout
    people = []
    for number in (0, 1):
        raw = tmp_path / "sets" / f"set{number}" / "raw"
        train = {path.name for path in (raw / "train" / "images").iterdir()}
        others = {path.resolve().parent.name for path in (raw / "eval" / "images").iterdir()}
        assert (len(train), len(others), train & others) == (20, 25, set())
        people.append(train)
    assert not people[0] & people[1]


@pytest.mark.long
def test_an_ablation_compares_arms_with_the_reference(tmp_path):
    make_demo(tmp_path / "raw", 12, 6, seed=1)
    words = [ROOT / "configs" / "demo.yaml", "--data.root", tmp_path / "raw", "--data.folds", 2]
    words += ["--optim.epochs", 2, "--optim.warmup_epochs", 0, "--data.image_size", 32, 32, "--optim.lr", 0.05]
    done = benchmark("ablation", [*words, "--seeds", 1, 2, "--arms", "reference", "focal"], tmp_path)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[:2] for row in rows[1:]] == [["| reference", "2"], ["| focal", "2"]]
    assert done.stdout.count("[") == 4
    again = benchmark("ablation", [*words, "--seeds", 1, "--arms", "reference"], tmp_path)
    assert "already finished" in again.stderr
    wrong = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "ablation.py", *map(str, words), "--arms", "fokal"],
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 2
    assert "focal" in wrong.stderr


@pytest.mark.long
def test_the_audit_is_measured_on_models_of_several_strengths(tmp_path):
    make_demo(tmp_path / "raw", 12, 6, seed=1)
    words = [ROOT / "configs" / "demo.yaml", "--data.root", tmp_path / "raw", "--data.folds", 2]
    words += ["--data.image_size", 32, 32, "--epochs", 1, 2]
    done = benchmark("audit_strength", words, tmp_path)
    cells = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [(row[0], row[2]) for row in cells] == [
        (f"audit-42-{epochs}", axis) for epochs in (1, 2) for axis in ("gender", "mask")
    ]
    assert all(row[5] in ("yes", "no") for row in cells)
    done = benchmark("audit_strength", [*words[:-1], "--genders", 2, "--exchanges", 1], tmp_path)
    cells = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [row[8] for row in cells] == ["2", "1"]
    assert len((tmp_path / "audit-42-planted.csv").read_text().splitlines()) == 4


def benchmark(name, words, folder):
    """Run a benchmark in its own process and folder."""
    search_path = os.pathsep.join([str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")])
    environ = os.environ | {"WANDB_MODE": "disabled", "PYTHONPATH": search_path}
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environ,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.long
def test_members_are_scored_out_of_fold_and_held_out(tmp_path):
    make_demo(tmp_path / "raw", 12, 6, seed=1)
    shared = ["--data.root", tmp_path / "raw", "--data.folds", 2, "--optim.epochs", 1, "--optim.warmup_epochs", 0]
    for name, head in (("a", "joint"), ("b", "factored")):
        words = [
            ROOT / "configs" / "demo.yaml",
            *shared,
            "--data.image_size",
            32,
            32,
            "--name",
            name,
            "--model.head",
            head,
        ]
        command = [sys.executable, ROOT / "scripts" / "train.py", *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, env=os.environ | {"WANDB_MODE": "disabled"})
        assert done.returncode == 0, done.stderr
    done = benchmark("members", ["a", "b", "--truth", tmp_path / "raw" / "answers.csv"], tmp_path)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 2 + 3 + 1 + 2


@pytest.mark.long
def test_the_shift_warning_is_measured(tmp_path):
    make_demo(tmp_path / "raw", 45, 6, seed=1)
    words = ["--data", tmp_path / "raw", "--train-people", 30, "--eval-people", 15, "--other", tmp_path / "raw"]
    done = benchmark("shift", [*words, "--splits", 2, "--changed-splits", 1], tmp_path)
    rows = [row.split(" | ") for row in done.stdout.splitlines() if row.startswith("| ")][1:]
    assert rows[0][:3] == ["| not changed", "2", "0"]
    raised = {row[0].partition(" (")[0].removeprefix("| "): row[2] for row in rows[1:]}
    assert raised["blurred, sigma 2.0"] == raised["encoded again, quality 30"] == "1"
    assert len(rows) == 1 + 15 + 1 + 3
