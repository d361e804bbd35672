"""Damaged JSON files of a run are one message that names the file and the key."""

import json

import pytest

from maskfold.errors import UserError
from maskfold.runs.run_folder import RunFolder

ROW = {"epoch": 1, "seconds": 2.0, "images_per_second": 9.0, "macro_f1": 0.5, "val_loss": 1.0}


def metrics_of(tmp_path, text, part="fold0"):
    folder = tmp_path / part
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(text)
    return RunFolder(tmp_path).read_metrics(part)


def test_valid_rows_are_read_as_they_are(tmp_path):
    # A diverged metric is NaN; a refit has no scores.
    assert metrics_of(tmp_path, json.dumps(ROW)) == [ROW]
    refit = {key: value for key, value in ROW.items() if key != "macro_f1"} | {"grad_norm": float("inf")}
    assert metrics_of(tmp_path, json.dumps(refit), "full") == [refit]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seconds": "x"}, "seconds"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"macro_f1": None}, "macro_f1"),
        ({"epoch": 1.5}, "epoch"),
        ({"images_per_second": [1]}, "images_per_second"),
        ({"val_loss": "high"}, "val_loss"),
        ({"lr": 10**400}, "lr"),
    ],
)
def test_a_value_that_is_no_number_is_named(tmp_path, change, word):
    with pytest.raises(UserError, match=rf"metrics\.jsonl: {word}.*train fold0 again"):
        metrics_of(tmp_path, json.dumps(ROW | change))


@pytest.mark.parametrize("text", ["", "[" * 50_000, "9" * 5000, "[]", "null", "{"])
def test_lines_that_are_no_rows_are_an_error(tmp_path, text):
    with pytest.raises(UserError, match=r"metrics\.jsonl.*train fold0 again"):
        metrics_of(tmp_path, text)


@pytest.mark.parametrize(
    "change", [{"eval_people": "many"}, {"eval_people": 10**12}, {"identity": 3}, {"versions": []}]
)
def test_a_wrong_value_of_provenance_is_named(trained, tmp_path, change):
    content = json.loads((trained.run.folder / "provenance.json").read_text())
    (tmp_path / "provenance.json").write_text(json.dumps(content | change))
    with pytest.raises(UserError, match=rf"provenance\.json: {min(change)}: .*--fresh"):
        _ = RunFolder(tmp_path).provenance
