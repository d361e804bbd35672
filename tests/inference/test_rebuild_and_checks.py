"""Rebuilding from a manifest, refused members, warnings, leaderboard scores, and the comparison of runs."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import refused
from safetensors.numpy import load_file, save_file
from support import PATIENCE

from maskfold.data.images_table import load_prepared
from maskfold.fileio import sha256
from maskfold.inference.ensemble_gain import load_gain, record_gain
from maskfold.inference.submission_checks import unlikely_shares
from maskfold.inference.submission_index import COLUMNS, read_index, score_history
from maskfold.labels import KIND_MASK, encode
from maskfold.probabilities import Predictions, load_predictions
from maskfold.runs.run_folder import RunFolder


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained.run.folder, tmp_path / "runs" / "tiny"))


@pytest.fixture
def other(run, tmp_path):
    """A second member with another seed and other predictions: the bias of its head is changed."""
    other = Path(shutil.copytree(run, tmp_path / "runs" / "other"))
    config = other / "config.yaml"
    config.write_text(config.read_text().replace("seed: 42\ndata:", "seed: 43\ndata:"))
    provenance = json.loads((other / "provenance.json").read_text())
    (other / "provenance.json").write_text(json.dumps(provenance | {"config_sha256": sha256(config)}))
    for fold in (0, 1):
        path = other / f"fold{fold}" / "model.safetensors"
        tensors = load_file(path)
        tensors["head.linear.bias"] = np.roll(tensors["head.linear.bias"], 1) + np.linspace(0, 2, 18, dtype=np.float32)
        save_file(tensors, path)
    return other


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
        ({"members": [manifest["members"][0], {"run": "gone", "checkpoints": {}}]}, ["gone", "no run folder"]),
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


@pytest.mark.parametrize("fault", ["nan", "sum", "twice", "missing", "few"])
def test_faulty_predictions_are_named(script, run, fault):
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
    refused(script("submit", run, "--out", "b.csv"), "eval-none.npz")
    assert not Path("b.csv").exists()


def test_the_index_keeps_submissions_and_leaderboard_scores(script, run, other):
    for members, name in (([run], "a"), ([other], "b"), ([run, other], "c")):
        assert script("submit", *members, "--out", f"subs/{name}.csv").code == 0
    table = read_index(Path("subs"))
    assert tuple(table.columns) == COLUMNS
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
    (Path("subs") / "index.csv").write_text("nonsense\n1\n")
    refused(script("submit", "--record", "subs/a", "0.5"), "index.csv", "missing")
    refused(script("submit", run, "--out", "subs/late.csv"), "index.csv", "missing")
    assert not list(Path("subs").glob("late.*"))


def test_the_score_history_by_hand():
    row = dict.fromkeys(COLUMNS, "x") | {"board_half_low": 0.4, "board_half_high": 0.6}
    rows = [row | {"name": f"s{n}", "expected_macro_f1": 0.5 + n / 100, "board_score": 0.5 + n / 50} for n in range(4)]
    lines = score_history(pd.DataFrame([*rows, row | {"name": "new", "expected_macro_f1": 0.5, "board_score": np.nan}]))
    assert len(lines) == 5
    assert lines[0] == "s0: expected 0.5000, leaderboard 0.5000, inside board_half95 [0.4000, 0.6000]"
    assert "correlation 1.00 over 4" in lines[4]
    rows[0]["board_score"] = rows[1]["board_score"] = 0.2
    assert "warning" in score_history(pd.DataFrame(rows))[-1]


def test_an_identical_submission_is_reported(script, run, other):
    assert script("submit", run, "--out", "subs/a.csv").code == 0
    assert "warning: nearly the same as submission a: 100.0%" in script("submit", run, "--out", "subs/twin.csv").out
    done = script("submit", other, "--out", "subs/b.csv")
    same = (pd.read_csv("subs/a.csv").ans == pd.read_csv("subs/b.csv").ans).mean()
    assert f"compared with submission a: {same:.1%}" in done.out
    # An edited file is not compared.
    Path("subs/a.csv").write_text("ImageID,ans\n")
    assert "submission a:" not in script("submit", other, "--out", "subs/c.csv").out


def test_unlikely_shares_are_reported_by_axis(trained):
    prepared = load_prepared(trained.prepared)
    images = prepared.images
    likely = np.tile(images.label.to_numpy(), 20)
    assert unlikely_shares(likely, prepared) == []
    masks = np.tile(list(KIND_MASK.values()), 240)
    female = encode(masks, 1, np.resize(images["label"] % 3, len(masks)))
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


def test_evaluate_compares_runs_in_sentences(script, run, other):
    done = script("evaluate", run, other)
    assert done.code == 0, done.err
    assert "tiny is better than other" in done.out or "no significant difference between tiny and other" in done.out
    assert "largest change of F1 from other to tiny" in done.out
    assert "people with more correct photos in tiny" in done.out
    assert "calibration: temperature" in done.out
    assert (run / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_runs_of_different_labels_are_compared_on_both(script, run, other):
    """The other run is correct on all of its own labels; half of them are the first run's labels too."""
    oof = load_predictions(other / "oof.npz", out_of_fold=True)
    labels = np.where(np.arange(len(oof.label)) % 2, oof.label, (oof.label + 1) % 18)
    replace(oof, label=labels, probs=np.eye(18, dtype=np.float32)[labels]).save(other / "oof.npz")
    done = script("evaluate", run, other)
    assert done.code == 0, done.err
    assert f"{len(labels) // 2} photos of 12 people are labelled differently; on the labels of tiny:" in done.out
    first, second = done.out.split("on the labels of other:")
    assert "change of F1" in first.split("on the labels of tiny:")[1]
    assert "other is better than tiny" in second
    # Runs on different labels are not averaged.
    assert "members: out-of-fold" not in done.out


@pytest.mark.slow
def test_two_full_size_runs_are_evaluated_in_seconds(script, run, other):
    """18,900 rows each, 2,000 resamples: a computation over their product would take hours."""
    rng, n = np.random.default_rng(0), 18_900
    people = np.arange(n) // 7
    labels = rng.integers(0, 6, 2700)[people] + 6 * np.tile([0, 0, 0, 0, 0, 1, 2], 2700)
    for folder in (run, other):
        probs = rng.dirichlet(np.full(18, 0.1), n)
        probs[np.arange(n), labels] += 0.3
        ids = np.array([f"photo{row}" for row in range(n)])
        Predictions(ids, probs / probs.sum(1, keepdims=True), labels, people % 2, people).save(folder / "oof.npz")
    start = time.perf_counter()
    done = script("evaluate", run, other)
    assert done.code == 0, done.err
    assert time.perf_counter() - start < PATIENCE
