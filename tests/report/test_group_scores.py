"""Scores by group against values computed by hand, and planted biases that the findings must report."""

import html
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score
from wrong_labels import names, people, turned

from maskfold.audit.label_noise import find_suspects
from maskfold.data.images_table import load_prepared
from maskfold.labels import age_group, decode_label, encode_label
from maskfold.metrics.bootstrap import Resampling
from maskfold.metrics.group_scores import scores_by_group
from maskfold.probabilities import load_predictions
from maskfold.report.data_card import data_card
from maskfold.report.group_findings import PossibleCauses, group_findings, possible_causes

AGES, GENDERS = ("<30", "30-59", ">=60"), ("male", "female")


def no_causes(oof):
    """Causes that explain nothing."""
    ids = np.unique(oof.person_id)
    return PossibleCauses(ids, np.zeros(len(ids)), {})


def members(oof, name):
    """bool [N]: the rows of a group, from its name."""
    _, gender, age = decode_label(oof.label)
    words = name.split(", ")
    mine = np.ones(len(oof.label), bool)
    for word in words:
        mine &= gender == GENDERS.index(word) if word in GENDERS else age == AGES.index(word)
    return mine


def test_scores_by_group_by_hand(trained):
    oof = load_predictions(trained.run.folder / "oof.npz", out_of_fold=True)
    table = scores_by_group(oof)
    assert {"male", "female"} < set(table.index)
    assert any(", " in name for name in table.index)
    right, confidence = oof.pred_labels == oof.label, oof.probs.max(1)
    for name, row in table.iterrows():
        mine = members(oof, name)
        assert row.people == len({person for person, own in zip(oof.person_id, mine, strict=True) if own})
        assert row.photos == mine.sum()
        assert row.accuracy == pytest.approx(right[mine].mean())
        assert row.gap == pytest.approx(right[mine].mean() - right[~mine].mean())
        assert row.overconfidence == pytest.approx(confidence[mine].mean() - right[mine].mean(), abs=1e-6)
        classes = sorted(
            {int(encode_label(mask, *decode_label(label)[1:])) for label in oof.label[mine] for mask in range(3)}
        )
        assert row.f1 == pytest.approx(
            f1_score(oof.label, oof.pred_labels, labels=classes, average="macro", zero_division=0)
        )
        predicted, true = decode_label(oof.pred_labels), decode_label(oof.label)
        assert row.mask_wrong == pytest.approx((predicted[0] != true[0])[mine].mean())
        assert row.gender_wrong == pytest.approx((predicted[1] != true[1])[mine].mean())
        assert row.too_young == pytest.approx((predicted[2] < true[2])[mine].mean())
        assert row.too_old == pytest.approx((predicted[2] > true[2])[mine].mean())
        bins = np.minimum((confidence[mine] * 15).astype(int), 14)
        error = sum(
            (bins == index).mean() * abs(confidence[mine][bins == index].mean() - right[mine][bins == index].mean())
            for index in np.unique(bins)
        )
        assert row.calibration_error == pytest.approx(error, abs=1e-6)


def test_intervals_are_those_of_resampled_people():
    """An independent bootstrap over people within gender x age gives the same bounds up to sampling error."""
    oof = people(200, seed=1)
    table = scores_by_group(oof)
    names_of = [f"{gender}, {age}" for gender in GENDERS for age in AGES]
    strata = [np.unique(oof.person_id[members(oof, name)]) for name in names_of]
    rows_of = {person: np.flatnonzero(oof.person_id == person) for person in np.unique(oof.person_id)}
    rng, right, confidence = np.random.default_rng(1), oof.pred_labels == oof.label, oof.probs.max(1)
    means = {key: [] for key in ("accuracy", "f1", "gap", "overconfidence")}
    mine = members(oof, "male, 30-59")
    classes = sorted(set(oof.label[mine].tolist()))
    for _ in range(500):
        sample = np.concatenate([rows_of[p] for ids in strata for p in ids[rng.integers(len(ids), size=len(ids))]])
        own = mine[sample]
        accuracy = right[sample][own].mean()
        means["accuracy"].append(accuracy)
        means["gap"].append(accuracy - right[sample][~own].mean())
        means["overconfidence"].append(confidence[sample][own].mean() - accuracy)
        means["f1"].append(f1_score(oof.label[sample], oof.pred_labels[sample], labels=classes, average="macro"))
    for key, values in means.items():
        assert table.loc["male, 30-59", f"{key}_ci95"] == pytest.approx(np.percentile(values, (2.5, 97.5)), abs=0.03), (
            key
        )
    # The bound that holds for all groups simultaneously is wider than that of one group.
    assert (table.gap_upper95 > table.gap_ci95.map(lambda ends: ends[1])).all()


def even(n=600, seed=0):
    """People of equal accuracy in all groups."""
    return people(n, doubt=0.7, seed=seed)


@pytest.mark.slow
def test_equal_groups_have_no_findings():
    """The test has a level of 5 % for all eleven groups together, so 1 or 2 of 20 samples may have a finding."""
    has_findings = [
        bool(group_findings(scores_by_group(oof, Resampling(count=500)), oof, no_causes(oof)))
        for oof in (even(200, seed) for seed in range(20))
    ]
    assert sum(has_findings) <= 3


def test_a_single_person_is_no_finding():
    """One old person who is mostly predicted young is no evidence about other old people."""
    oof = people(100, doubt=0.5)
    mask, gender, age = decode_label(oof.label)
    someone = oof.person_id[age == 2][0]
    only = np.isin(oof.person_id, [someone])
    oof = replace(oof, label=encode_label(mask, gender, np.where(only, 2, np.minimum(age, 1))))
    oof = replace(
        oof, probs=np.where(only[:, None], np.eye(18)[encode_label(mask, gender, 0)], oof.probs).astype(np.float32)
    )
    assert scores_by_group(oof).people[">=60"] == 1
    assert not any(
        ">=60" in sentence.split(":")[0] for sentence in group_findings(scores_by_group(oof), oof, no_causes(oof))
    )


@pytest.mark.parametrize("name", ["female, 30-59", "male, <30", "female"])
def test_planted_label_errors_are_the_first_finding_with_their_cause(name):
    oof = even()
    assert group_findings(scores_by_group(oof), oof, no_causes(oof)) == []
    ids = np.unique(oof.person_id[members(oof, name)])
    # A tenth of the people with a label of this group have a wrong gender label.
    strangers = np.setdiff1d(np.unique(oof.person_id), ids)
    _, _, age = decode_label(oof.label)
    wanted = {AGES.index(word) for word in name.split(", ") if word in AGES} or {0, 1, 2}
    of_age = np.unique(oof.person_id[np.isin(age, list(wanted))])
    wrong = np.intersect1d(strangers, of_age)[: round(len(ids) / 9)]
    biased = turned(oof, genders=wrong)
    assert members(biased, name)[np.isin(biased.person_id, wrong)].all()
    suspects, fits = find_suspects(biased)
    people_ids = np.unique(biased.person_id)
    p_wrong = suspects[suspects.axis == "gender"].set_index("person_id").p_wrong.reindex(people_ids).to_numpy()
    assert fits["gender"].rate > 0
    findings = group_findings(scores_by_group(biased), biased, PossibleCauses(people_ids, p_wrong, {}))
    assert findings[0].startswith(f"{name}: ")
    assert "error is gender" in findings[0]
    assert f" into the group {name.replace('fe', '') if 'fe' in name else 'fe' + name}." in findings[0]
    assert "of its people have a wrong label" in findings[0]


@pytest.mark.parametrize("name", ["female, 30-59", "male, <30", "female"])
def test_finding_names_the_true_group_of_wrong_labels(name):
    """A tenth of the people of a group have the other gender as label: the finding of that gender names the group."""
    oof = even()
    ids = np.unique(oof.person_id[members(oof, name)])
    biased = turned(oof, genders=ids[: round(len(ids) / 10)])
    findings = group_findings(scores_by_group(biased), biased, no_causes(biased))
    assert f" into the group {name}." in findings[0]


def test_small_groups_and_dark_photos_are_possible_causes():
    oof = people(300, doubt=0.5)
    old = members(oof, ">=60")
    # All photos of old people are predicted too young with probability 1.
    mask, gender, _ = decode_label(oof.label)
    probs = np.where(old[:, None], np.eye(18)[encode_label(mask, gender, 0)], oof.probs).astype(np.float32)
    oof = replace(oof, probs=probs)
    ids = np.unique(oof.person_id)
    dark = np.where(np.isin(ids, oof.person_id[old]), 40.0, 120.0)
    [first, *_] = group_findings(
        scores_by_group(oof), oof, PossibleCauses(ids, np.zeros(len(ids)), {"brightness": dark})
    )
    assert first.startswith(">=60:")
    # Accuracy, the share of the most frequent error, and the overconfidence.
    for words in ("accuracy 0.0%", "too young (100.0%", "by 100.0", "brightness"):
        assert words in first
    assert f"{len(np.unique(oof.person_id[old]))} of 300" in first
    assert names([0])[0] not in first


def test_brightness_and_sharpness_are_measured_per_person(trained):
    from maskfold.loading.store import open_store

    prepared = load_prepared(trained.prepared)
    oof = load_predictions(trained.run.folder / "oof.npz", out_of_fold=True)
    store = open_store(prepared, prepared.images, trained.run.config.data)
    suspects, fits = find_suspects(oof)
    causes = possible_causes(suspects, fits, prepared, store)
    person = causes.person_id[4]
    rows = np.flatnonzero(prepared.images.person_id == person)
    weights = np.array([0.299, 0.587, 0.114])
    assert causes.photo_means["brightness"][4] == pytest.approx(
        np.mean([(store[row] @ weights).mean() for row in rows]), abs=1
    )
    assert (causes.photo_means["sharpness"] > 0).all()
    assert causes.p_wrong.shape == causes.person_id.shape


def test_report_shows_the_scores_by_group(script, trained, tmp_path):
    run = Path(shutil.copytree(trained.run.folder, tmp_path / "r"))
    assert script("report", run).code == 0
    text = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    oof = load_predictions(run / "oof.npz", out_of_fold=True)
    section = text[text.index("id='performance-by-group'") : text.index("id='most-confident-errors'")]
    for name, row in scores_by_group(oof).iterrows():
        cells = re.search(rf"<tr><th scope='row' class='k'>{re.escape(name)}</th>(.*?)</tr>", section)[1]
        assert f"{row.accuracy:.4f} [{row.accuracy_ci95[0]:.3f}, {row.accuracy_ci95[1]:.3f}]" in cells
        assert f"{row.gender_wrong:.1%}" in cells
    assert "id='data-card'" in text


def test_data_card_contains_the_counts(trained):
    prepared = load_prepared(trained.prepared)
    text = html.unescape(data_card(prepared, {"gender": 0.031}))
    table = prepared.images.drop_duplicates("person_id")
    for gender in GENDERS:
        counts = [((table.gender == gender) & (age_group(table.age) == group)).sum() for group in range(3)]
        assert (
            f"<th scope='row' class='k'>{gender}</th>" + "".join(f"<td class='v'>{count}</td>" for count in counts)
            in text
        )
    near = ((table.age == 59) | (table.age == 60)).sum()
    assert f"{near} are 59 or 60" in text
    assert re.search(r"3\.1%[^<]*gender", text)
    assert prepared.meta["fingerprint"] in text
