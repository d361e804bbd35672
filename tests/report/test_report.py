"""The report of a run: whole, alone, and with the numbers of summary.json."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import pytest
from conftest import refused

from maskfold.metrics.scores import class_table
from maskfold.pages.figures import by_age, class_bars, class_dots, confusion_matrix, curves
from maskfold.probabilities import load_predictions


class Page(HTMLParser):
    """What a page holds: its words, its images and whatever it would load."""

    def __init__(self, text: str):
        super().__init__()
        self.words, self.images, self.loads, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "img":
            self.images.append(given)
        self.loads += [given[key] for key in ("src", "href") if key in given and not given[key].startswith("data:")]
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained.run.folder, tmp_path / "실험 <b>&1"))


def test_a_report_is_whole_and_says_what_summary_json_says(script, run):
    done = script("report", run)
    assert done.code == 0, done.err
    text = (run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    # Nothing is asked of any host, and nothing runs.
    assert page.loads == []
    assert "<script" not in text
    assert "실험 <b>&1" in page.words
    assert len(text) < 15e6
    summary, said = json.loads((run / "summary.json").read_text()), " ".join(page.words)
    whole = summary["oof"]
    for key in ("macro_f1", "accuracy", "mask_accuracy", "gender_accuracy", "age_accuracy", "age_f1"):
        assert f"{whole[key]:.4f}" in said
        low, high = whole[f"{key}_ci95"]
        assert f"[{low:.4f}, {high:.4f}]" in said
    assert "board95 [{:.4f}, {:.4f}]".format(*whole["board95"]) in said
    for row in summary["folds"]:
        assert f"{row['macro_f1']:.4f}" in said
    for word in ("optim.batch_size", summary["config_hash"], summary["dataset"], summary["selection"]):
        assert word in said
    alts = [image["alt"] for image in page.images]
    for figure in (
        "Losses and macro F1 by epoch, a line a fold",
        *(f"Confusion matrix: {name}" for name in ("mask", "gender", "age", "classes")),
        "F1 of each class with its 95 % interval, photos in brackets",
        "Reliability diagram",
        "Accuracy by age in years",
        "Accuracy of each group with its 95 % interval",
        "augmented photos",
        "Learning rate, gradient norm and throughput by epoch",
    ):
        assert alts.count(figure) == 1, figure
    # Wrong answers and right ones in turn.
    assert sum(alt.endswith(", Grad-CAM") for alt in alts) >= 2
    assert "wrong: " in said
    assert "right: " in said
    # A mistake is shown with its id, its truth and its answer.
    oof = np.load(run / "oof.npz")
    wrong = oof["probs"].argmax(1) != oof["label"]
    surest = oof["image_id"][wrong][oof["probs"][wrong].max(1).argmax()]
    assert surest in alts
    assert surest in said
    changed = re.search(r"class=changed><td><code>optim.epochs</code>", text)
    assert changed


def test_runs_are_compared_on_a_page(script, run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "다른 run"))
    oof = load_predictions(other / "oof.npz", out_of_fold=True)
    replace(oof, probs=np.eye(18, dtype=np.float32)[oof.label]).save(other / "oof.npz")
    done = script("report", run, other, "--out", tmp_path / "both.html")
    assert done.code == 0, done.err
    assert [line.partition(":")[0] for line in done.out.splitlines()] == ["report", "report", "comparison"]
    page = Page((tmp_path / "both.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert page.loads == []
    said = " ".join(page.words)
    summary = json.loads((run / "summary.json").read_text())
    assert f"{summary['oof']['macro_f1']:.4f}" in said
    # The other is right everywhere: the verdict and the score say so.
    assert "1.0000" in said
    assert "다른 run is better than 실험 <b>&1" in said
    assert len(page.images) == 2


def test_runs_of_different_labels_have_no_mean(script, run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "relabelled"))
    oof = load_predictions(other / "oof.npz", out_of_fold=True)
    replace(oof, label=(oof.label + 1) % 18).save(other / "oof.npz")
    assert script("report", run, other).code == 0
    said = " ".join(Page((run / "comparison.html").read_text(encoding="utf-8")).words)
    assert "on the labels of relabelled" in said
    assert "the mean of all" not in said


def test_what_can_not_be_compared_is_refused(script, run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "stranger"))
    oof = load_predictions(other / "oof.npz", out_of_fold=True)
    replace(oof, image_id=np.char.add("x", oof.image_id)).save(other / "oof.npz")
    refused(script("report", run, other), "oof.npz", "are not in")
    assert not (run / "comparison.html").exists()
    refused(script("report", run, "--out", tmp_path / "x.html"), "--out")


def test_a_report_of_nothing_is_refused(script, tmp_path, run):
    refused(script("report", tmp_path / "nothing"), "no run folder")
    (run / "oof.npz").unlink()
    refused(script("report", run), "oof.npz")
    assert not (run / "report.html").exists()


def test_curves_have_a_line_a_part_that_knows_the_key():
    history = [{"epoch": 1, "train_loss": 2.0, "macro_f1": 0.1}, {"epoch": 2, "train_loss": 1.0, "macro_f1": 0.3}]
    full = [{key: value for key, value in row.items() if key != "macro_f1"} for row in history]
    drawn = curves({"fold0": history, "full": full}, {"train_loss": "loss", "macro_f1": "F1"})
    loss, f1 = drawn.axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[2.0, 1.0], [2.0, 1.0]]
    assert [line.get_ydata().tolist() for line in f1.lines] == [[0.1, 0.3]]
    # Told apart without colour, and both named, though the last panel has one line.
    assert len({(line.get_marker(), line.get_linestyle()) for line in loss.lines}) == 2
    assert [text.get_text() for text in f1.get_legend().get_texts()] == ["fold0", "full"]


def test_of_26_runs_each_has_a_mark_of_its_own():
    rows = class_table(np.arange(18), np.arange(18))
    [axes] = class_dots({letter: rows for letter in ascii_uppercase}).axes
    assert [line.get_marker() for line in axes.lines] == [f"${letter}$" for letter in ascii_uppercase]


@pytest.mark.slow
def test_parts_of_a_run_that_share_no_photo_are_compared(script, run, tmp_path):
    others = [Path(shutil.copytree(run, tmp_path / f"part{fold}")) for fold in (0, 1)]
    oof = load_predictions(run / "oof.npz", out_of_fold=True)
    for fold, other in enumerate(others):
        oof.aligned(oof.image_id[oof.fold == fold]).save(other / "oof.npz")
        shutil.rmtree(other / f"fold{1 - fold}")
    done = script("report", run, *others)
    assert done.code == 0, done.err
    said = Page((run / "comparison.html").read_text(encoding="utf-8")).words
    assert "the mean of all" not in said
    assert f"{(oof.fold == 0).sum()}" in said
    # A single fold has no others to be tempered by.
    assert "cross-fitted" not in " ".join(Page((others[0] / "report.html").read_text(encoding="utf-8")).words)


def test_a_confusion_matrix_shows_its_counts():
    drawn = confusion_matrix(np.array([[7, 0], [3, 1200]]), ("male", "female"))
    [axes] = drawn.axes
    assert sorted(text.get_text() for text in axes.texts) == ["1,200", "3", "7"]


def test_class_bars_are_the_f1s():
    labels, answers = np.array([0, 0, 1, 5]), np.array([0, 1, 1, 5])
    rows = class_table(labels, answers)
    [axes] = class_bars(rows, [[0, 1]] * 18).axes
    assert [bar.get_width() for bar in axes.patches] == [row["f1"] for row in rows]


def test_accuracy_by_age_by_hand():
    ages = np.array([20, 20, 59, 60])
    drawn = by_age(ages, np.array([True, False, True, False]), np.array([True, True, True, False]))
    top, bottom = drawn.axes
    whole, group = top.lines[:2]
    assert whole.get_xdata().tolist() == [20, 59, 60]
    assert whole.get_ydata().tolist() == [0.5, 1, 0]
    assert group.get_ydata().tolist() == [1, 1, 0]
    assert [bar.get_height() for bar in bottom.patches] == [2, 1, 1]
    # The borders lie between 29 and 30, and 59 and 60.
    assert [line.get_xdata()[0] for line in top.lines[2:]] == [29.5, 59.5]
