"""The label audit reports planted label errors and duplicates, and nothing in clean data."""

import builtins
import shutil
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import refused, tiny_args
from hypothesis import given
from hypothesis import strategies as st
from support import numbers_in
from wrong_labels import names, people, turned

from maskfold.audit.duplicate_people import find_duplicates, hash_similarity
from maskfold.audit.label_noise import MIN_EVIDENCE, Contamination, find_suspects
from maskfold.data.images_table import load_prepared
from maskfold.labels import decode_label, encode_label
from maskfold.probabilities import load_predictions
from maskfold.synthetic.demo_data import make_demo


def test_p_wrong_by_hand():
    """With slope 1 and margin -ln 9 the label has probability 0.1; at a rate of 0.1 it is wrong with probability 0.5."""
    p_wrong = Contamination(1.0, 0.1, 0.0).p_wrong(np.array([-np.log(9), 0.0, np.log(9)]))
    assert p_wrong == pytest.approx([0.5, 0.1, 0.01 / 0.82])


@given(st.floats(0.1, 10), st.floats(0.001, 0.5), st.lists(st.floats(-30, 30), min_size=2))
def test_p_wrong_decreases_with_the_margin(slope, rate, margins):
    p_wrong = Contamination(slope, rate, 0.0).p_wrong(np.sort(margins))
    assert (np.diff(p_wrong) <= 1e-12).all()
    assert ((p_wrong >= 0) & (p_wrong <= 1)).all()


@pytest.mark.parametrize(
    "doubt", [pytest.param(0.5, marks=pytest.mark.slow), 1.0, pytest.param(2.0, marks=pytest.mark.slow)]
)
def test_uncertain_models_do_not_cause_proposals(doubt):
    """Ten samples of correct labels, by confident and by uncertain models; the test has a level of 5 %."""
    shares = [find_suspects(people(doubt=doubt, seed=seed))[0].proposed.sum() / 300 for seed in range(10)]
    assert np.mean(shares) < 0.01
    assert np.sum(np.array(shares) > 0) <= 2
    assert np.sum(np.array(shares) >= 0.02) <= 1


@pytest.mark.slow
def test_estimated_rate_of_wrong_labels():
    rates = []
    for seed in range(5):
        oof = people(600, seed=seed)
        wrong = names(np.random.default_rng(seed).permutation(600)[:42])
        _, fits = find_suspects(turned(oof, genders=wrong))
        assert fits["gender"].evidence > MIN_EVIDENCE
        rates.append(fits["gender"].rate)
    assert np.mean(rates) == pytest.approx(0.07, abs=0.02)


def test_planted_errors_rank_first_with_one_row_per_person():
    oof = people()
    genders, swaps = names(range(10, 30)), names(range(100, 112))
    suspects, _ = find_suspects(turned(oof, genders, swaps))
    by_axis = {axis: table.set_index("person_id") for axis, table in suspects.groupby("axis")}
    assert set(by_axis) == {"gender", "age", "mask"}
    assert all(len(table) == 300 for table in by_axis.values())
    first = by_axis["gender"].sort_values("rank").head(40)
    assert len(set(first.index) & set(genders)) >= 16
    assert set(by_axis["mask"].sort_values("rank").head(12).index) == set(swaps)
    assert set(by_axis["mask"].index[by_axis["mask"].proposed]) == set(swaps)
    proposed = by_axis["gender"][by_axis["gender"].proposed]
    assert len(set(proposed.index) & set(genders)) >= 8
    assert len(set(proposed.index) - set(genders)) <= 3
    row = first.iloc[0]
    assert (row.field, row.value) == ("gender", row.suggested)
    assert row.photos_against == row.photos == 7
    assert not by_axis["age"].proposed.any()


def test_wrong_ages_are_ranked_with_the_age_of_the_suggested_group():
    oof = people()
    mask, gender, age = decode_label(oof.label)
    is_young, is_middle = (np.isin(oof.person_id, names([person])) for person in (5, 6))
    probs = oof.probs.reshape(-1, 3, 2, 3).sum((1, 3))
    certain = np.zeros((len(oof.label), 3, 2, 3), np.float32)
    for rows, group in ((is_young, 0), (is_middle, 1)):
        certain[rows, 0, :, group] = probs[rows]
    labels = np.where(is_young, 2, np.where(is_middle, 0, age))
    new = np.where((is_young | is_middle)[:, None], certain.reshape(-1, 18), oof.probs)
    suspects, _ = find_suspects(replace(oof, probs=new, label=encode_label(mask, gender, labels)))
    ages = suspects[suspects.axis == "age"].set_index("person_id")
    assert set(ages[ages["rank"] <= 2].index) == {"005", "006"}
    assert tuple(ages.loc["005", ["given", "suggested", "value"]]) == (">=60", "<30", "29")
    # The middle group does not determine an age.
    assert tuple(ages.loc["006", ["given", "suggested", "value"]]) == ("<30", "30-59", "")


def test_ranking_does_not_depend_on_cleanlab(monkeypatch):
    oof = turned(people(), genders=names(range(20)))
    with_cleanlab, _ = find_suspects(oof)
    flagged = with_cleanlab[(with_cleanlab.axis == "gender") & with_cleanlab.confident_learning.astype(bool)]
    assert len(set(flagged.person_id) & set(names(range(20)))) >= 14
    original_import = builtins.__import__

    def missing(name, *args, **more):
        if name.startswith("cleanlab"):
            raise ImportError(name)
        return original_import(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    without_cleanlab, _ = find_suspects(oof)
    assert without_cleanlab.confident_learning.isna().all()
    columns = ["axis", "rank", "person_id", "p_wrong", "proposed"]
    pd.testing.assert_frame_equal(with_cleanlab[columns], without_cleanlab[columns])


def copy_of(photo, scale, quality, rng):
    """A cropped and recompressed copy of the same size, as JPEG bytes."""
    height, width = photo.shape[:2]
    high, wide = int(height * scale), int(width * scale)
    top, left = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
    crop = cv2.resize(photo[top : top + high, left : left + wide], (width, height))
    return cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


# Five minutes.
@pytest.mark.long
def test_at_most_3_false_duplicates_among_600_synthetic_people(tmp_path):
    """Synthetic people are more similar to each other than real people."""
    make_demo(tmp_path / "many", 600, 6, seed=11)
    paths = sorted((tmp_path / "many" / "train" / "images").glob("[!.]*/normal.*"))
    paths = [path for path in paths if not path.name.startswith(".")]
    names = [path.parent.name for path in paths]
    assert len(names) == 600
    noise = np.random.default_rng(0).normal(size=(600, 8))
    assert len(find_duplicates(names, paths, noise)) <= 3


@pytest.mark.slow
def test_copies_are_duplicates_and_other_people_are_not(synthetic, tmp_path):
    rng = np.random.default_rng(0)
    paths = sorted((synthetic / "train" / "images").glob("*/normal.jpg"))
    names, copies = [path.parent.name for path in paths], []
    for index, (scale, quality) in enumerate([(0.97, 40), (0.9, 60), (0.85, 80)]):
        copy = tmp_path / f"copy{index}.jpg"
        copy.write_bytes(copy_of(cv2.imread(str(paths[index])), scale, quality, rng))
        copies.append(copy)
    pairs = find_duplicates([*names, *(copy.stem for copy in copies)], [*paths, *copies], None)
    assert {(row.person_a, row.person_b) for row in pairs.itertuples()} == {
        (names[index], f"copy{index}") for index in range(3)
    }
    assert (pairs.likeness > 0.9).all()
    assert find_duplicates(names, paths, None).empty


def test_hashes_are_compared_in_the_memory_of_a_few_matrices():
    codes = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (300, 37, 143))
    expected = np.maximum.reduce([codes[:, 0] @ codes[:, window].T for window in range(37)])
    tracemalloc.start()
    similarity = hash_similarity(codes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(similarity, expected)
    assert peak < 4 * similarity.nbytes


class Images(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.alts = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            assert dict(attrs)["src"].startswith("data:")
            self.alts.append(dict(attrs)["alt"])


def test_audit_end_to_end(script, raw):
    """The audit reports a person copied under another id and label, and proposes corrections that evaluate.py and
    prepare.py accept."""
    table = pd.read_csv(raw / "train" / "train.csv", dtype=str)
    images, rng = raw / "train" / "images", np.random.default_rng(1)
    source = table.path[0]
    shutil.copytree(images / source, images / "999999_male_Asian_33")
    for path in (images / "999999_male_Asian_33").glob("[!.]*.jpg"):
        path.write_bytes(copy_of(cv2.imread(str(path)), 0.93, 60, rng))
    row = {"id": "999999", "gender": "male", "race": "Asian", "age": "33", "path": "999999_male_Asian_33"}
    pd.concat([table, pd.DataFrame([row])]).to_csv(raw / "train" / "train.csv", index=False)
    assert script("train", *tiny_args(raw, "--name", "a")).code == 0
    run = Path("runs/a")
    # Predictions that are correct for everybody, with different confidence; the labels of three people contradict them.
    oof = load_predictions(run / "oof.npz", out_of_fold=True)
    ids = np.unique(oof.person_id)
    truth = turned(oof, genders=ids[3:5], swaps=ids[7:8]).label
    order = [*(person for person in ids if person not in (*ids[3:5], ids[7])), *ids[3:5], ids[7]]
    confidence = 1 / (1 + np.exp(-np.minimum(1 + pd.Series(oof.person_id).map(order.index).to_numpy(), 10)))[:, None]
    probs = (1 - confidence) / 17 + (confidence - (1 - confidence) / 17) * np.eye(18)[truth]
    replace(oof, probs=probs.astype(np.float32)).save(run / "oof.npz")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = script("audit", "a")
    assert done.code == 0, done.err
    assert {path: path.read_bytes() for path in before} == before
    pairs = pd.read_csv(run / "audit/duplicates.csv")
    assert [{row.person_a, row.person_b} for row in pairs.itertuples()] == [{source, "999999_male_Asian_33"}]
    assert not pairs.same_labels[0]
    suspects = pd.read_csv(run / "audit/suspects.csv")
    first = suspects[suspects["rank"] == 1].set_index("axis").person_id
    assert first["gender"] in ids[3:5]
    assert first["mask"] == ids[7]
    proposals = pd.read_csv(run / "audit/corrections.csv")
    assert list(proposals.columns) == ["person_id", "field", "value", "reason"]
    assert set(proposals.person_id) == {*ids[3:5], ids[7]}
    alts = Images((run / "audit/audit.html").read_text(encoding="utf-8")).alts
    assert f"{ids[7]}/normal" in alts
    assert f"{source}/normal" in alts
    scored = script("evaluate", "a", "--corrections", run / "audit/corrections.csv")
    assert scored.code == 0, scored.err
    assert "original (trained on)" in scored.out
    assert numbers_in(scored.out, "change the label of") == [16, 3, 0, 16]
    made = script("prepare", "--data", raw, "--out", "new", "--corrections", run / "audit/corrections.csv")
    assert "3 made, 0 already correct" in made.out
    # A second audit replaces the first one.
    assert script("audit", "a").code == 0


@pytest.mark.slow
def test_earlier_corrections_are_kept_or_reverted(script, raw):
    """A corrections file is applied to the raw labels, so the proposals contain the earlier corrections of the data."""
    folders = pd.read_csv(raw / "train" / "train.csv", dtype=str)
    wrong, right, third = folders.path[2], folders.path[5], folders.path[8]
    turn = {"male": "female", "female": "male"}
    gender = dict(zip(folders.path, folders.gender, strict=True))
    lines = [f"{wrong},swap,incorrect_mask|normal,no", f"{right},gender,{turn[gender[right]]},yes"]
    Path("before.csv").write_text("person_id,field,value,reason\n" + "\n".join(lines) + "\n")
    made = script("prepare", "--data", raw, "--out", "fixed", "--corrections", "before.csv", "--folds", 2)
    assert made.code == 0, made.err
    assert script("train", *tiny_args(raw, "--name", "c", "--data.prepared", "fixed")).code == 0
    run = Path("runs/c")
    oof = load_predictions(run / "oof.npz", out_of_fold=True)
    # The models contradict the swap, agree with the gender, and contradict the gender of a third person.
    truth = turned(oof, genders=[third], swaps=[wrong]).label
    ids = [*sorted(set(oof.person_id) - {wrong, third}), wrong, third]
    confidence = 1 / (1 + np.exp(-(1 + pd.Series(oof.person_id).map(ids.index).to_numpy())))[:, None]
    replace(
        oof, probs=((1 - confidence) / 17 + (confidence - (1 - confidence) / 17) * np.eye(18)[truth]).astype(np.float32)
    ).save(run / "oof.npz")
    done = script("audit", "c")
    assert done.code == 0, done.err
    corrections = pd.read_csv(run / "audit/corrections.csv").set_index("person_id")
    assert set(corrections.index) == {right, third}
    assert corrections.value[right] == turn[gender[right]]
    assert corrections.value[third] == turn[gender[third]]
    scored = script("evaluate", "c", "--corrections", run / "audit/corrections.csv")
    assert "trained on" in scored.out
    assert numbers_in(scored.out, "corrections:") == [2, 0, 0]
    # Prepared.people has the corrected labels, although folds.csv is unchanged.
    prepared = load_prepared(Path("fixed"))
    assert prepared.people.set_index("person_id").gender[right] == turn[gender[right]]


def test_corrections_may_be_empty_and_unknown_people_are_named(script, trained):
    Path("none.csv").write_text("person_id,field,value,reason\n")
    done = script("evaluate", trained.run.folder, "--corrections", "none.csv")
    assert done.code == 0, done.err
    assert numbers_in(done.out, "0 photos")[:2] == [0, 0]
    Path("typo.csv").write_text("person_id,field,value,reason\nnobody,gender,male,x\n")
    done = script("evaluate", trained.run.folder, "--corrections", "typo.csv")
    assert numbers_in(done.out, "corrections: 0") == [0, 0, 1]
    assert "(nobody)" in done.out


def test_raw_data_that_has_changed_is_refused(script, raw):
    assert script("train", *tiny_args(raw, "--name", "r", "--folds", 0)).code == 0
    Path("none.csv").write_text("person_id,field,value,reason\n")
    table = raw / "train" / "train.csv"
    text = table.read_text()
    first = pd.read_csv(table, dtype=str).iloc[0]
    other = "male" if first.gender == "female" else "female"
    table.write_text(text.replace(f"{first.id},{first.gender}", f"{first.id},{other}", 1))
    refused(script("evaluate", "r", "--corrections", "none.csv"), "train.csv", "prepare.py")
    table.write_text("\n".join(text.splitlines()[:-1]) + "\n")
    refused(script("evaluate", "r", "--corrections", "none.csv"), "train.csv", "prepare.py")
    refused(script("audit", "r"), "train.csv")
    assert not Path("runs/r/audit").exists()


def test_audit_reports_that_folds_are_missing(script, raw):
    assert script("train", *tiny_args(raw, "--name", "p", "--folds", 0)).code == 0
    done = script("audit", "p")
    assert done.code == 0, done.err
    folds = pd.read_csv(next(Path().rglob("folds.csv"))).fold
    assert f"{(folds == 0).sum()} of {len(folds)} people" in done.out


def test_invalid_inputs_are_refused(script, trained, tmp_path):
    refused(script("audit", tmp_path / "nothing"), "not a run folder")
    run = Path(shutil.copytree(trained.run.folder, tmp_path / "r"))
    (run / "oof.npz").write_bytes(b"no")
    refused(script("audit", run), "oof.npz")
    assert not (run / "audit").exists()
    refused(script("evaluate", trained.run.folder, "--corrections", tmp_path / "none.csv"), "none.csv", "not found")
    refused(script("evaluate", "--submission", "a.csv", "--truth", "b.csv", "--corrections", "c.csv"), "--corrections")
