"""The fairness section by hand, and biases planted to be found."""

import html
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from test_audit import names, people, turned

from maskfold.analysis.datacard import data_card
from maskfold.analysis.fairness import by_group
from maskfold.analysis.findings import Circumstances, circumstances, findings
from maskfold.analysis.suspects import suspects
from maskfold.data.prepared import load_prepared
from maskfold.labels import age_group, decode, encode
from maskfold.predictions import load_predictions

AGES, GENDERS = ("<30", "30-59", ">=60"), ("male", "female")


def plain(oof):
    """Nothing known that could be why."""
    ids = np.unique(oof.person_id)
    return Circumstances(ids, np.zeros(len(ids)), {})


def members(oof, name):
    """bool [N], by the names alone."""
    _, gender, age = decode(oof.label)
    words = name.split(", ")
    mine = np.ones(len(oof.label), bool)
    for word in words:
        mine &= gender == GENDERS.index(word) if word in GENDERS else age == AGES.index(word)
    return mine


def test_every_number_by_hand(trained):
    oof = load_predictions(trained.run.folder / "oof.npz", out_of_fold=True)
    found = by_group(oof)
    assert {"male", "female"} < set(found.index)
    assert any(", " in name for name in found.index)
    right, confidence = oof.answers == oof.label, oof.probs.max(1)
    for name, row in found.iterrows():
        mine = members(oof, name)
        assert row.people == len({person for person, own in zip(oof.person_id, mine, strict=True) if own})
        assert row.photos == mine.sum()
        assert row.accuracy == pytest.approx(right[mine].mean())
        assert row.gap == pytest.approx(right[mine].mean() - right[~mine].mean())
        assert row.overconfidence == pytest.approx(confidence[mine].mean() - right[mine].mean(), abs=1e-6)
        classes = sorted({int(encode(mask, *decode(label)[1:])) for label in oof.label[mine] for mask in range(3)})
        assert row.f1 == pytest.approx(
            f1_score(oof.label, oof.answers, labels=classes, average="macro", zero_division=0)
        )
        said, true = decode(oof.answers), decode(oof.label)
        assert row.mask_wrong == pytest.approx((said[0] != true[0])[mine].mean())
        assert row.gender_wrong == pytest.approx((said[1] != true[1])[mine].mean())
        assert row.too_young == pytest.approx((said[2] < true[2])[mine].mean())
        assert row.too_old == pytest.approx((said[2] > true[2])[mine].mean())
        bins = np.minimum((confidence[mine] * 15).astype(int), 14)
        error = sum(
            (bins == at).mean() * abs(confidence[mine][bins == at].mean() - right[mine][bins == at].mean())
            for at in np.unique(bins)
        )
        assert row.calibration_error == pytest.approx(error, abs=1e-6)
        for key in ("accuracy", "f1", "overconfidence"):
            low, high = row[f"{key}_ci95"]
            assert low - 1e-9 <= row[key] <= high + 1e-9 or key == "f1"


def test_intervals_are_those_of_resampled_people():
    """An own bootstrap over the people of a group: its ends are the same but for the draws."""
    oof = people(200, seed=1)
    row = by_group(oof).loc["male, 30-59"]
    mine = members(oof, "male, 30-59")
    right = pd.Series(oof.answers == oof.label)[mine].groupby(oof.person_id[mine]).mean().to_numpy()
    rng = np.random.default_rng(1)
    means = [right[rng.integers(len(right), size=len(right))].mean() for _ in range(4000)]
    assert row.accuracy_ci95 == pytest.approx(np.percentile(means, (2.5, 97.5)), abs=0.02)


def even(n=600):
    """People who are all served alike."""
    oof = people(n, doubt=0.7)
    mask, gender, age = decode(oof.label)
    return replace(oof, label=encode(mask, gender, age))


@pytest.mark.parametrize("name", ["female, 30-59", "male, <30", "female"])
def test_a_planted_bias_is_the_first_finding_and_its_reason_is_told(name):
    oof = even()
    assert findings(by_group(oof), oof, plain(oof)) == []
    ids = np.unique(oof.person_id[members(oof, name)])
    # Labels of a tenth of this group's people, as given, are wrong: theirs is another gender.
    strangers = np.setdiff1d(np.unique(oof.person_id), ids)
    _, _, age = decode(oof.label)
    wanted = {AGES.index(word) for word in name.split(", ") if word in AGES} or {0, 1, 2}
    of_age = np.unique(oof.person_id[np.isin(age, list(wanted))])
    wrong = np.intersect1d(strangers, of_age)[: round(len(ids) / 9)]
    biased = turned(oof, genders=wrong)
    assert members(biased, name)[np.isin(biased.person_id, wrong)].all()
    found, fits = suspects(biased)
    people_ids = np.unique(biased.person_id)
    p_wrong = found[found.axis == "gender"].set_index("person_id").p_wrong.reindex(people_ids).to_numpy()
    assert fits["gender"].rate > 0
    said = findings(by_group(biased), biased, Circumstances(people_ids, p_wrong, {}))
    assert said[0].startswith(f"{name}: ")
    assert "the gender" in said[0]
    assert "Labels: an estimated" in said[0]


def test_support_and_photos_are_named_as_reasons():
    oof = people(300, doubt=0.5)
    old = members(oof, ">=60")
    # All photos of old people are answered too young, with certainty.
    mask, gender, _ = decode(oof.label)
    probs = np.where(old[:, None], np.eye(18)[encode(mask, gender, 0)], oof.probs).astype(np.float32)
    oof = replace(oof, probs=probs)
    ids = np.unique(oof.person_id)
    dark = np.where(np.isin(ids, oof.person_id[old]), 40.0, 120.0)
    [first, *_] = findings(by_group(oof), oof, Circumstances(ids, np.zeros(len(ids)), {"brightness": dark}))
    assert first.startswith(">=60: 0.0% of its photos")
    assert "an age too young (100.0%)" in first
    assert "Support: " in first
    assert "their brightness differs" in first
    assert "surer of their answers than right, by 100.0%" in first
    assert names([0])[0] not in first


def test_circumstances_are_read_off_the_photos(trained):
    from maskfold.data.store import open_store

    prepared = load_prepared(trained.prepared)
    oof = load_predictions(trained.run.folder / "oof.npz", out_of_fold=True)
    store = open_store(prepared, prepared.images, trained.run.config.data)
    found, fits = suspects(oof)
    known = circumstances(found, fits, prepared, store)
    person = known.person_id[4]
    rows = np.flatnonzero(prepared.images.person_id == person)
    weights = np.array([0.299, 0.587, 0.114])
    assert known.looks["brightness"][4] == pytest.approx(
        np.mean([(store[row] @ weights).mean() for row in rows]), abs=1
    )
    assert (known.looks["sharpness"] > 0).all()
    assert known.p_wrong.shape == known.person_id.shape


def test_the_report_tells_the_same(script, trained, tmp_path):
    run = Path(shutil.copytree(trained.run.folder, tmp_path / "r"))
    assert script("report", run).code == 0
    text = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    oof = load_predictions(run / "oof.npz", out_of_fold=True)
    section = text[text.index("Whom it serves") : text.index("The surest mistakes")]
    for name, row in by_group(oof).iterrows():
        cells = re.search(rf"<tr><td>{re.escape(name)}</td>(.*?)</tr>", section)[1]
        assert f"{row.accuracy:.4f} [{row.accuracy_ci95[0]:.3f}, {row.accuracy_ci95[1]:.3f}]" in cells
        assert f"{row.gender_wrong:.1%}" in cells
    assert "Data card" in text
    assert "must not be used" in text


def test_the_data_card_counts(trained):
    prepared = load_prepared(trained.prepared)
    text = html.unescape(data_card(prepared, {"gender": 0.031}))
    table = prepared.folds
    for gender in GENDERS:
        counts = [((table.gender == gender) & (age_group(table.age) == at)).sum() for at in range(3)]
        assert f"<td>{gender}</td>" + "".join(f"<td class='n'>{count}</td>" for count in counts) in text
    near = ((table.age == 59) | (table.age == 60)).sum()
    assert f"{near} are 59 or 60" in text
    assert "An estimated 3.1% of the people have a wrong label of gender." in text
    assert prepared.meta["fingerprint"] in text
