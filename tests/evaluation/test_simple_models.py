"""Baselines with scripts/baselines.py."""

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import refused, tiny_args


@pytest.mark.slow
def test_baselines_to_beat(script, synthetic, tmp_path):
    import timm
    from safetensors.torch import save_file

    weights = tmp_path / "w.safetensors"
    save_file({k: v.contiguous() for k, v in timm.create_model("test_convnext").state_dict().items()}, weights)
    args = tiny_args(synthetic, "--data.prepared", "p")
    done = script("baselines", *args, "--model.weights", weights)
    assert done.code == 0, done.err
    baselines = json.loads(Path("p/baselines.json").read_text())
    assert len(baselines["rungs"]) == 3
    images = pd.read_csv("p/images.csv")
    fold = images.person_id.map(pd.read_csv("p/folds.csv").set_index("person_id").fold)
    right = [images.label[fold == k] == images.label[fold != k].value_counts().sort_index().idxmax() for k in (0, 1)]
    assert baselines["rungs"]["most frequent class"]["accuracy"] == pytest.approx(pd.concat(right).mean())
    assert "logistic" in done.out
    bare = script("baselines", *args)
    assert "without pretrained weights" in bare.out
    assert script("train", *args, "--name", "weak", "--optim.lr", 1e-9).code == 0
    output = script("evaluate", "weak").out
    assert "nearest class mean image" in output
    baselines["rungs"] = {"nothing": baselines["rungs"]["most frequent class"] | {"macro_f1": -1.0}}
    Path("p/baselines.json").write_text(json.dumps(baselines))
    assert "does not beat" not in script("evaluate", "weak").out
    for change, key in (
        ({"rungs": {}}, "rungs"),
        ({"rungs": {"x": {}}}, "rungs.x.macro_f1"),
        ({"dataset": 1}, "dataset"),
    ):
        Path("p/baselines.json").write_text(json.dumps(baselines | change))
        refused(script("evaluate", "weak"), "baselines.json", key, "run scripts/baselines.py again")
