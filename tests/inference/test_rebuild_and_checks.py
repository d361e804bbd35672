"""Rebuilding from a manifest, refused members, warnings, leaderboard scores, and the comparison of runs."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import first_quick, refused
from support import line_with

from maskfold.data.images_table import load_prepared
from maskfold.fileio import sha256
from maskfold.inference.ensemble_gain import load_gain, record_gain
from maskfold.inference.submission_index import INDEX_COLUMNS, SUBMISSION_COLUMNS, read_index, score_history
from maskfold.inference.suspicious_submission import unlikely_shares
from maskfold.labels import KIND_MASK, encode_label
from maskfold.probabilities import load_predictions
from maskfold.runs.run_folder import RunFolder


def test_a_submission_is_rebuilt_byte_for_byte(script, run, other):
    assert script("submit", run, other, "--tta", "none", "hflip", "--out", "a.csv").code == 0
    before = Path("a.csv").read_bytes()
    Path("a.csv").unlink()
    for path in [*run.glob("eval-*.npz"), *run.glob("oof-*.npz"), *other.glob("eval-*.npz"), *other.glob("oof-*.npz")]:
        path.unlink()
    done = script("submit", "--from", "a.json")
    assert done.code == 0, done.err
    assert Path("a.csv").read_bytes() == before
    assert script("submit", "--from", "a.json", "--out", "again.csv").code == 0
    assert Path("again.csv").read_bytes() == before


def test_rebuilding_uses_the_weights_and_temperatures_of_the_manifest(script, run, other):
    """A manifest in which only the second member has weight gives that member's submission."""
    assert script("submit", run, other, "--out", "both.csv").code == 0
    assert script("submit", other, "--out", "one.csv").code == 0
    manifest, one = (json.loads(Path(f"{name}.json").read_text()) for name in ("both", "one"))
    assert Path("both.csv").read_bytes() != Path("one.csv").read_bytes()
    manifest |= {"weights": [0.0, 1.0], "csv_sha256": one["csv_sha256"]}
    Path("both.json").write_text(json.dumps(manifest))
    assert script("submit", "--from", "both.json", "--out", "again.csv").code == 0
    assert Path("again.csv").read_bytes() == Path("one.csv").read_bytes()


def test_rebuilding_after_a_change_is_refused(script, run, other, tmp_path):
    assert script("submit", run, other, "--out", "a.csv").code == 0
    before = Path("a.csv").read_bytes()
    weights = other / "fold1" / "model.safetensors"
    kept = weights.read_bytes()
    shutil.copy(other / "fold0" / "model.safetensors", weights)
    refused(script("submit", "--from", "a.json"), str(weights), "has changed")
    weights.write_bytes(kept)
    manifest = json.loads(Path("a.json").read_text())
    for change, words in (
        ({"csv_sha256": "0" * 64}, ["predict other labels"]),
        ({"dataset": "another"}, ["dataset", "another"]),
        ({"weights": [1.0]}, ["do not match"]),
        ({"members": [manifest["members"][0], {"run": "gone", "checkpoints": {}}]}, ["gone", "not a run folder"]),
    ):
        Path("b.json").write_text(json.dumps(manifest | change))
        refused(script("submit", "--from", "b.json", "--out", "b.csv"), *words)
        assert not Path("b.csv").exists()
    member = manifest["members"][0]
    for change, key in (
        ({"members": [member | {"checkpoints": [1]}, member]}, "members.0.checkpoints"),
        ({"members": [member | {"folder": 7}, member]}, "members.0.folder"),
        ({"weights": [10**400, 1.0]}, "weights.0"),
        ({"temperatures": [0.0, 1.0]}, "temperatures.0"),
        ({"tta": [["none"]]}, "tta.0"),
        ({"name": None}, "name"),
    ):
        Path("b.json").write_text(json.dumps(manifest | change))
        refused(
            script("submit", "--from", "b.json", "--out", "b.csv"), "b.json", f" {key}: ", "make the submission again"
        )
    Path("b.json").write_text("{}")
    refused(script("submit", "--from", "b.json"), "b.json", "not a manifest")
    refused(script("submit", "--from", "a.csv"), "a.csv", ".json")
    refused(script("submit", run, "--from", "a.json"), "--from")
    assert Path("a.csv").read_bytes() == before


def test_members_with_other_folds_or_data_are_refused(script, run, other, trained, tmp_path):
    """The second member gets a prepared folder with other folds, then with other labels."""
    prepared = Path(shutil.copytree(trained.prepared, tmp_path / "elsewhere"))
    folds = pd.read_csv(prepared / "folds.csv", dtype={"person_id": str})
    folds["fold"] = 1 - folds.fold
    folds.to_csv(prepared / "folds.csv", index=False)

    def move(identity: str, dataset: str) -> None:
        text = (run / "config.yaml").read_text().replace(str(trained.prepared), str(prepared))
        (other / "config.yaml").write_text(text)
        provenance = json.loads((run / "provenance.json").read_text())
        provenance |= {"config_sha256": sha256(other / "config.yaml"), "identity": identity, "dataset": dataset}
        (other / "provenance.json").write_text(json.dumps(provenance))

    changed = load_prepared(prepared)
    move(changed.identity, changed.meta["fingerprint"])
    refused(script("submit", run, other, "--out", "a.csv"), "other", "12 of 12 people", "folds.csv")
    meta = json.loads((prepared / "dataset.json").read_text())
    (prepared / "dataset.json").write_text(json.dumps(meta | {"fingerprint": "feedbeef"}))
    move(load_prepared(prepared).identity, "feedbeef")
    refused(
        script("submit", run, other, "--out", "a.csv"), "training photos or labels", "feedbeef", meta["fingerprint"]
    )
    assert not Path("a.csv").exists()


@pytest.mark.parametrize("fault", first_quick("nan", "sum", "twice", "missing", "few"))
def test_faulty_predictions_are_named_and_computed_again(script, run, fault):
    assert script("submit", run, "--out", "a.csv").code == 0
    path = run / "eval-none.npz"
    predictions = load_predictions(path)
    probs, ids = predictions.probs.copy(), predictions.image_id.copy()
    if fault == "nan":
        probs[3, 4] = np.nan
    elif fault == "sum":
        probs[3] *= 1.1
    elif fault == "twice":
        ids[1] = ids[0]
    elif fault == "missing":
        probs, ids = probs[1:], ids[1:]
    else:
        probs = probs[:, :17]
    replace(predictions, probs=probs, image_id=ids).save(path)
    done = script("submit", run, "--out", "b.csv")
    assert done.code == 0, done.err
    assert "eval-none.npz" in done.err
    assert Path("b.csv").read_bytes() == Path("a.csv").read_bytes()


def test_the_index_keeps_submissions_and_leaderboard_scores(script, run, other):
    for members, name in (([run], "a"), ([other], "b"), ([run, other], "c")):
        assert script("submit", *members, "--out", f"subs/{name}.csv").code == 0
    table = read_index(Path("subs"))
    assert tuple(table.columns) == INDEX_COLUMNS
    assert table["name"].tolist() == ["a", "b", "c"]
    assert table.members.tolist() == ["tiny", "other", "tiny other"]
    expected = json.loads(Path("subs/a.json").read_text())["expected"]
    assert table.expected_macro_f1[0] == pytest.approx(expected["macro_f1"])
    assert table.board_half_high[0] == pytest.approx(expected["board_half95"][1])
    done = script("submit", "--record", "subs/a", "0.99")
    assert done.code == 0, done.err
    assert "a: expected" in done.out
    assert "OUTSIDE" in done.out
    assert "warning" not in done.out
    # The same file keeps its leaderboard score; another file of the same name does not.
    assert script("submit", run, "--out", "subs/a.csv").code == 0
    assert read_index(Path("subs")).set_index("name").board_score["a"] == 0.99
    assert "2 of 2 leaderboard scores" in script("submit", "--record", "subs/b.csv", "1").out
    assert script("submit", other, "--out", "subs/a.csv").code == 0
    assert np.isnan(read_index(Path("subs")).set_index("name").board_score["a"])
    for name, score, words in (
        ("subs/aa", "0.5", ["aa"]),
        ("subs/a", "77.5", ["0 to 1"]),
        ("subs/a", "nan", ["0 to 1"]),
    ):
        refused(script("submit", "--record", name, score), *words)
    rows = (Path("subs") / "index.csv").read_text().splitlines()
    # A row without a name, which pandas reads as NaN.
    (Path("subs") / "index.csv").write_text("\n".join([*rows, "," * rows[0].count(",")]) + "\n")
    refused(script("submit", "--record", "subs/aa", "0.5"), "aa", "did you mean a")
    # A mistyped folder is not created.
    refused(script("submit", "--record", "sub/a", "0.5"), "sub/index.csv", "no such submission")
    assert not Path("sub").exists()
    (Path("subs") / "index.csv").write_text("nonsense\n1\n")
    refused(script("submit", "--record", "subs/a", "0.5"), "index.csv", "missing")
    refused(script("submit", run, "--out", "subs/late.csv"), "index.csv", "missing")
    assert not list(Path("subs").glob("late.*"))


def test_the_score_history_by_hand():
    row = dict.fromkeys(INDEX_COLUMNS, "x") | {"board_half_low": 0.4, "board_half_high": 0.6}
    row |= dict.fromkeys(SUBMISSION_COLUMNS, np.nan)
    rows = [row | {"name": f"s{n}", "expected_macro_f1": 0.5 + n / 100, "board_score": 0.5 + n / 50} for n in range(4)]
    lines = score_history(pd.DataFrame([*rows, row | {"name": "new", "expected_macro_f1": 0.5, "board_score": np.nan}]))
    assert len(lines) == 5
    assert [float(number) for number in re.findall(r"0\.\d+", lines[0])] == [0.5, 0.5, 0.4, 0.6]
    assert [line.partition(":")[0] for line in lines[:4]] == ["s0", "s1", "s2", "s3"]
    assert re.findall(r"\d[.\d]*", lines[4]) == ["1.00", "4"]
    rows[0]["board_score"] = rows[1]["board_score"] = 0.2
    assert "warning" in score_history(pd.DataFrame(rows))[-1]
    # The interval of the submission itself comes first, where it is known.
    rows[0] |= {"expected_submission": 0.3, "submission_half_low": 0.1, "submission_half_high": 0.45}
    lines = score_history(pd.DataFrame(rows))
    assert [float(number) for number in re.findall(r"0\.\d+", lines[0])] == [0.3, 0.2, 0.1, 0.45]
    assert ["inside" in lines[0], "OUTSIDE" in lines[1], "warning" in lines[-1]] == [True, True, False]


def test_an_identical_submission_is_reported(script, run, other):
    assert script("submit", run, "--out", "subs/earlier.csv").code == 0
    line = line_with(script("submit", run, "--out", "subs/twin.csv").out, "earlier")
    assert "warning" in line
    assert "100.0%" in line
    Path("subs/twin.csv").unlink()
    line = line_with(script("submit", other, "--out", "subs/b.csv").out, "earlier")
    same = (pd.read_csv("subs/earlier.csv").ans == pd.read_csv("subs/b.csv").ans).mean()
    assert f"{same:.1%}" in line
    assert "warning" not in line
    # An edited file is not compared.
    Path("subs/earlier.csv").write_text("ImageID,ans\n")
    assert "earlier" not in script("submit", other, "--out", "subs/c.csv").out


def test_unlikely_shares_are_reported_by_axis(trained):
    prepared = load_prepared(trained.prepared)
    images = prepared.images
    likely = np.tile(images.label.to_numpy(), 20)
    assert unlikely_shares(likely, prepared) == []
    masks = np.tile(list(KIND_MASK.values()), 240)
    female = encode_label(masks, 1, np.resize(images["label"] % 3, len(masks)))
    [warning] = unlikely_shares(female, prepared)
    assert warning.startswith("gender")
    bare = np.where(np.arange(len(likely)) % 4 == 0, 12 + likely % 6, likely)
    [warning] = unlikely_shares(bare, prepared)
    assert warning.startswith("mask")
    assert "expected 71.4%" in warning


def test_the_gain_of_the_mean_is_estimated_from_repeats(script, run, other, trained):
    """Equal runs gain nothing, runs with independent errors gain a lot; the manifest has the estimate."""
    from maskfold.inference.ensemble_gain import estimate_gain

    oof = load_predictions(run / "oof.npz", out_of_fold=True)
    assert estimate_gain([oof, oof], 5)["gain"] == pytest.approx(0)
    rng, members = np.random.default_rng(0), []
    for _ in range(3):
        probs = rng.dirichlet(np.ones(18), len(oof.label))
        probs[np.arange(len(probs)), oof.label] += 0.15
        members.append(replace(oof, probs=probs / probs.sum(1, keepdims=True)))
    three, five = estimate_gain(members, 3), estimate_gain(members, 5)
    assert three["ci95"][0] > 0.02
    assert five["gain"] == pytest.approx(three["gain"] * (1 - 1 / 5) / (1 - 1 / 3))
    assert "estimated from" not in script("evaluate", run, run).out
    assert not (run / "gain.json").exists()
    done = script("evaluate", run, other)
    assert done.code == 0, done.err
    assert "estimated from tiny, other" in done.out
    assert json.loads((run / "gain.json").read_text())["from"] == ["tiny", "other"]
    assert "estimated from tiny, other" in script("submit", run, "--out", "a.csv").out
    estimate, recorded = (json.loads(path.read_text()) for path in (Path("a.json"), run / "gain.json"))
    assert estimate["expected"]["mean_of_folds"]["gain"] == pytest.approx(recorded["gain"])
    for change, key in (({"gain": "x"}, "gain"), ({"ci95": [0.1]}, "ci95"), ({"from": None}, "from")):
        (run / "gain.json").write_text(json.dumps(recorded | change))
        refused(script("submit", run, "--out", "a.csv"), "gain.json", f" {key}: ", "evaluate the repeats again")


def test_a_gain_is_forgotten_when_a_repeat_is_trained_again(run, other):
    runs = [RunFolder(folder) for folder in (run, other)]
    assert [load_gain([each]) for each in runs] == [None, None]
    recorded = record_gain(runs)
    assert load_gain(runs[:1])["gain"] == recorded["gain"]
    # A moved run has no repeats beside it; an estimate of an older version has no hashes.
    moved = RunFolder(Path(shutil.copytree(run, run.parent / "elsewhere" / "renamed")))
    assert load_gain([moved])["gain"] == recorded["gain"]
    old = json.loads((run / "gain.json").read_text())
    del old["predictions"]
    (moved.folder / "gain.json").write_text(json.dumps(old))
    assert load_gain([moved])["gain"] == recorded["gain"]
    oof = load_predictions(other / "oof.npz", out_of_fold=True)
    replace(oof, probs=np.roll(oof.probs, 1, axis=1)).save(other / "oof.npz")
    assert [load_gain([each]) for each in runs] == [None, None]
    record_gain(runs)
    assert load_gain(runs)["from"] == ["tiny", "other"]
