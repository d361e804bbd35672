"""The report of a run and the comparison page: complete, self-contained, with the numbers of summary.json."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import refused
from support import line_with

from maskfold.evaluation.compare import differences
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
    # No submission was made, so there are no predictions to estimate its score from.
    assert "of this submission" not in content


def test_the_report_begins_with_the_expected_score_of_the_submission(script, run):
    done = script("submit", run, "--out", "a.csv")
    assert done.code == 0, done.err
    sentence = line_with(done.out, "expected leaderboard score of this submission")
    done = script("report", run)
    assert done.code == 0, done.err
    content = " ".join(Page((run / "report.html").read_text(encoding="utf-8")).words)
    assert content.index(sentence) < content.index("board95")


@pytest.mark.slow
def test_comparison_page_of_two_runs(script, run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "다른 run"))
    oof = load_predictions(other / "oof.npz", out_of_fold=True)
    perfect = replace(oof, probs=np.eye(18, dtype=np.float32)[oof.label])
    perfect.save(other / "oof.npz")
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
    for line in differences((run.name, other.name), oof, perfect):
        assert line in page.words
    assert len(page.images) == 2


@pytest.mark.slow
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
    refused(script("report", tmp_path / "nothing"), "not a run folder")
    (run / "oof.npz").unlink()
    refused(script("report", run), "oof.npz")
    assert not (run / "report.html").exists()


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
