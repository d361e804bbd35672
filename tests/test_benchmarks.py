"""The benchmarks run: on tiny data, for their figures' shape, not for their numbers."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

from maskfold.demo import make_demo

SPEED = {
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


@pytest.mark.slow
def test_speed_is_measured_and_drawn(drawn, tmp_path):
    groups = ("store", "loader", "training", "inference", "startup")
    out = tmp_path / "results.json"
    words = ["--data", drawn, "--only", *groups, "--repeats", 1, "--backbone", "test_resnet", "--out", out]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "run.py", *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    assert {name for name, result in results.items() if result["unit"] == "images/s"} == SPEED
    assert sum(name.startswith("help_of_") for name in results) == len(list((ROOT / "scripts").glob("*.py")))
    for name, result in results.items():
        assert result["ratio"] == pytest.approx(result["ours"] / result["theirs"])
        assert result["n"] == 1
        assert f"| {name.replace('_', ' ')} |" in done.stdout
    assert out.with_name("results.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
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
    asked = [
        {path.resolve().parent.name for path in (tmp_path / "draws" / f"draw{n}" / "raw" / "eval" / "images").iterdir()}
        for n in (0, 1)
    ]
    groups = [*people, *asked]
    assert [len(group) for group in groups] == [20, 20, 8, 8]
    assert len(set.union(*groups)) == 56
