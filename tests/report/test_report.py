"""The report of a run and the comparison page: complete, self-contained, with the numbers of summary.json."""

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
from maskfold.pages.figures import accuracy_by_age, class_f1_bars, class_f1_dots, confusion_matrix, learning_curves
from maskfold.probabilities import load_predictions


class Page(HTMLParser):
    """The contents of a page: text, images, ids, links within the page, and everything it would load."""

    def __init__(self, text: str):
        super().__init__()
        self.words, self.images, self.loads, self.open = [], [], [], []
        self.ids, self.anchors, self.headers, self.num_tables, self.num_captions = [], [], [], 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "img":
            self.images.append(values)
        if tag == "th":
            self.headers.append(values)
        self.num_tables += tag == "table"
        self.num_captions += tag == "caption"
        self.ids += [values["id"]] if "id" in values else []
        urls = [values[key] for key in ("src", "href") if key in values]
        self.anchors += [url[1:] for url in urls if url.startswith("#")]
        self.loads += [url for url in urls if not url.startswith(("data:", "#"))]
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained.run.folder, tmp_path / "실험 <b>&1"))


SECTIONS = ["scores", "learning-curves", "confusion-matrices", "f1-per-class", "calibration"]
SECTIONS += ["performance-by-age-and-photo-type", "performance-by-group", "most-confident-errors", "grad-cam"]
SECTIONS += ["augmentation", "optimisation", "data-card", "configuration"]


def check_structure(text: str, page: Page, sections: list[str]) -> None:
    """Sections with a table of contents, tables with captions and scopes, images with alt text, and a viewport."""
    assert page.open == []
    # The page loads nothing from other hosts, and runs no script.
    assert page.loads == []
    assert "<script" not in text
    assert page.ids == page.anchors == sections
    assert page.num_tables == page.num_captions > 0
    assert all(header.get("scope") in ("col", "row") for header in page.headers)
    assert all(image["alt"] for image in page.images)
    assert "name='viewport'" in text


def test_report_contains_the_numbers_of_summary_json(script, run):
    done = script("report", run)
    assert done.code == 0, done.err
    text = (run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    check_structure(text, page, SECTIONS)
    assert "photographs of people" in text
    assert len(text) < 15e6
    summary, content = json.loads((run / "summary.json").read_text()), " ".join(page.words)
    assert "실험 <b>&1" in content
    whole = summary["oof"]
    for key in ("macro_f1", "accuracy", "mask_accuracy", "gender_accuracy", "age_accuracy", "age_f1"):
        assert f"{whole[key]:.4f}" in content
        low, high = whole[f"{key}_ci95"]
        assert f"[{low:.4f}, {high:.4f}]" in content
    assert "board95 [{:.4f}, {:.4f}]".format(*whole["board95"]) in content
    for row in summary["folds"]:
        assert f"{row['macro_f1']:.4f}" in content
    for word in ("optim.batch_size", summary["config_hash"], summary["dataset"], summary["selection"]):
        assert word in content
    alts = [image["alt"] for image in page.images]
    for figure in (
        "Losses and macro F1 by epoch, one line per fold",
        *(f"Confusion matrix: {name}" for name in ("mask", "gender", "age", "classes")),
        "F1 of each class with its 95 % interval, photos in brackets",
        "Reliability diagram",
        "Accuracy by age in years",
        "Accuracy of each group with its 95 % interval",
        "augmented photos",
        "Learning rate, gradient norm and throughput by epoch",
    ):
        assert alts.count(figure) == 1, figure
    assert sum(alt.endswith(", Grad-CAM") for alt in alts) >= 2
    assert "incorrect: predicted " in content
    assert ["correct: predicted " in word for word in page.words].count(True) >= 2
    # The most confident error is shown with its id.
    oof = np.load(run / "oof.npz")
    wrong = oof["probs"].argmax(1) != oof["label"]
    most_confident = oof["image_id"][wrong][oof["probs"][wrong].max(1).argmax()]
    assert most_confident in alts
    assert most_confident in content
    changed = re.search(r"class=changed><th scope='row'><code>optim.epochs</code>", text)
    assert changed


def test_comparison_page_of_two_runs(script, run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "다른 run"))
    oof = load_predictions(other / "oof.npz", out_of_fold=True)
    replace(oof, probs=np.eye(18, dtype=np.float32)[oof.label]).save(other / "oof.npz")
    done = script("report", run, other, "--out", tmp_path / "both.html")
    assert done.code == 0, done.err
    assert [line.partition(":")[0] for line in done.out.splitlines()] == ["report", "report", "comparison"]
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    page = Page(text)
    sections = ["scores", "paired-differences", "learning-curves", "f1-per-class", "configuration"]
    check_structure(text, page, sections)
    content = " ".join(page.words)
    summary = json.loads((run / "summary.json").read_text())
    assert f"{summary['oof']['macro_f1']:.4f}" in content
    # The other run predicts everything correctly.
    assert "1.0000" in content
    assert "다른 run is better than 실험 <b>&1" in content
    assert len(page.images) == 2


def test_runs_of_different_labels_have_no_mean(script, run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "relabelled"))
    oof = load_predictions(other / "oof.npz", out_of_fold=True)
    replace(oof, label=(oof.label + 1) % 18).save(other / "oof.npz")
    assert script("report", run, other).code == 0
    content = " ".join(Page((run / "comparison.html").read_text(encoding="utf-8")).words)
    assert "on the labels of relabelled" in content
    assert "mean of all runs" not in content


def test_runs_without_common_photos_are_refused(script, run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "stranger"))
    oof = load_predictions(other / "oof.npz", out_of_fold=True)
    replace(oof, image_id=np.char.add("x", oof.image_id)).save(other / "oof.npz")
    refused(script("report", run, other), "oof.npz", "are not in")
    assert not (run / "comparison.html").exists()


def test_report_without_predictions_is_refused(script, tmp_path, run):
    refused(script("report", tmp_path / "nothing"), "no run folder")
    (run / "oof.npz").unlink()
    refused(script("report", run), "oof.npz")
    assert not (run / "report.html").exists()


def test_learning_curves_have_one_line_per_history_with_the_key():
    history = [{"epoch": 1, "train_loss": 2.0, "macro_f1": 0.1}, {"epoch": 2, "train_loss": 1.0, "macro_f1": 0.3}]
    full = [{key: value for key, value in row.items() if key != "macro_f1"} for row in history]
    chart = learning_curves({"fold0": history, "full": full}, {"train_loss": "loss", "macro_f1": "F1"})
    loss, f1 = chart.axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[2.0, 1.0], [2.0, 1.0]]
    assert [line.get_ydata().tolist() for line in f1.lines] == [[0.1, 0.3]]
    # The lines differ without colour, and the legend names both, though the last panel has one line.
    assert len({(line.get_marker(), line.get_linestyle()) for line in loss.lines}) == 2
    assert [text.get_text() for text in f1.get_legend().get_texts()] == ["fold0", "full"]


def test_each_of_26_runs_has_a_marker_of_its_own():
    rows = class_table(np.arange(18), np.arange(18))
    [axes] = class_f1_dots({letter: rows for letter in ascii_uppercase}).axes
    assert [line.get_marker() for line in axes.lines] == [f"${letter}$" for letter in ascii_uppercase]


@pytest.mark.slow
def test_runs_with_different_folds_have_no_mean_score(script, run, tmp_path):
    others = [Path(shutil.copytree(run, tmp_path / f"part{fold}")) for fold in (0, 1)]
    oof = load_predictions(run / "oof.npz", out_of_fold=True)
    for fold, other in enumerate(others):
        oof.aligned(oof.image_id[oof.fold == fold]).save(other / "oof.npz")
        shutil.rmtree(other / f"fold{1 - fold}")
    done = script("report", run, *others)
    assert done.code == 0, done.err
    words = Page((run / "comparison.html").read_text(encoding="utf-8")).words
    assert "mean of all runs" not in words
    assert f"{(oof.fold == 0).sum()}" in words
    # A single fold has no other folds for a cross-fitted temperature.
    assert "cross-fitted" not in " ".join(Page((others[0] / "report.html").read_text(encoding="utf-8")).words)


def test_confusion_matrix_shows_counts():
    chart = confusion_matrix(np.array([[7, 0], [3, 1200]]), ("male", "female"))
    [axes] = chart.axes
    assert sorted(text.get_text() for text in axes.texts) == ["1,200", "3", "7"]


def test_class_f1_bars_have_the_length_of_f1():
    labels, predicted = np.array([0, 0, 1, 5]), np.array([0, 1, 1, 5])
    rows = class_table(labels, predicted)
    [axes] = class_f1_bars(rows, [[0, 1]] * 18).axes
    assert [bar.get_width() for bar in axes.patches] == [row["f1"] for row in rows]


def test_accuracy_by_age_by_hand():
    ages = np.array([20, 20, 59, 60])
    chart = accuracy_by_age(ages, np.array([True, False, True, False]), np.array([True, True, True, False]))
    top, bottom = chart.axes
    whole, group = top.lines[:2]
    assert whole.get_xdata().tolist() == [20, 59, 60]
    assert whole.get_ydata().tolist() == [0.5, 1, 0]
    assert group.get_ydata().tolist() == [1, 1, 0]
    assert [bar.get_height() for bar in bottom.patches] == [2, 1, 1]
    # The borders lie between 29 and 30, and 59 and 60.
    assert [line.get_xdata()[0] for line in top.lines[2:]] == [29.5, 59.5]
