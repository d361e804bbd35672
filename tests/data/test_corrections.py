from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT, refused
from support import numbers_in

from maskfold.data.label_changes import relabelled
from maskfold.data.prepared_folder import PrepareOptions, prepare
from maskfold.data.raw_layout import find_layout
from maskfold.errors import UserError

OUT = Path("out")


def prepared(script, raw, rows):
    Path("fix.csv").write_text("person_id,field,value,reason\n" + "".join(f"{row},because\n" for row in rows))
    return script("prepare", "--data", raw, "--out", OUT, "--corrections", "fix.csv")


def images():
    return pd.read_csv(OUT / "images.csv", dtype={"person_id": str}).set_index("image_id")


def people_of(raw):
    return pd.read_csv(raw / "train" / "train.csv", dtype=str)


def test_corrections_change_labels_in_memory_only(script, raw):
    people = people_of(raw)
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}
    man = people[people.gender == "male"].iloc[0]
    young = people[people.age.astype(int) < 30].iloc[-1]
    rows = [f"{man.path},gender,female", f"{young.path},age,60", f"{people.path[7]},swap,incorrect_mask|normal"]
    assert script("prepare", "--data", raw, "--out", "plain").code == 0
    plain = pd.read_csv("plain/images.csv").set_index("image_id")
    done = prepared(script, raw, rows)
    assert done.code == 0, done.err
    assert "3 made, 0 already correct" in done.out
    fixed = images()
    assert (fixed.loc[fixed.person_id == man.path, "gender"] == "female").all()
    assert (fixed.label - plain.label)[fixed.person_id == man.path].eq(3 + 2 * (man.path == young.path)).all()
    assert (fixed.loc[fixed.person_id == young.path, "age"] == 60).all()
    swapped = people.path[7]
    assert fixed["mask"][f"{swapped}/normal"] == 1
    assert fixed["mask"][f"{swapped}/incorrect_mask"] == 2
    assert (fixed["mask"][[f"{swapped}/mask{n}" for n in range(1, 6)]] == 0).all()
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before


def test_corrections_are_idempotent(script, raw):
    swap = f"{people_of(raw).path[7]},swap,incorrect_mask|normal"
    assert prepared(script, raw, [swap]).code == 0
    once = images()
    done = prepared(script, raw, [swap, swap])
    assert done.code == 0
    assert "1 made" in done.out
    pd.testing.assert_frame_equal(images(), once)
    assert prepared(script, raw, [swap]).code == 0
    pd.testing.assert_frame_equal(images(), once)


def test_an_id_is_accepted_if_only_one_person_has_it(script, raw):
    people = people_of(raw)
    lone = people[~people.id.duplicated(keep=False)].iloc[0]
    assert prepared(script, raw, [f"{lone.id},age,60"]).code == 0
    assert (images().query("age == 60").person_id == lone.path).any()


def test_an_ambiguous_id_is_refused(script, raw):
    people = people_of(raw)
    shared = people[people.id.duplicated(keep=False)]
    refused(prepared(script, raw, [f"{shared.id.iloc[0]},age,60"]), *shared.path, "fix.csv line 2")
    assert not (OUT / "images.csv").exists()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{},gender,man", ["gender 'man'"]),
        ("{},age,old", ["age 'old'"]),
        ("{},swap,mask1|normal", ["swap 'mask1|normal'"]),
        ("{},hair,grey", ["field 'hair'"]),
    ],
)
def test_a_faulty_row_is_refused(script, raw, row, words):
    refused(prepared(script, raw, [row.format(people_of(raw).path[7])]), "fix.csv line 2", *words)


def test_contradicting_rows_are_refused(script, raw):
    person = people_of(raw).path[7]
    refused(prepared(script, raw, [f"{person},age,29", f"{person},age,60"]), "line 3", "29 in line 2")


def test_corrections_of_people_not_in_the_data_are_counted(script, raw):
    done = script("prepare", "--data", raw, "--out", OUT, "--corrections", ROOT / "configs" / "corrections.csv")
    assert done.code == 0
    assert numbers_in(done.out, "corrections:") == [0, 0, 18]


def test_training_with_other_corrections_than_prepared_is_refused(script, raw):
    assert script("prepare", "--data", raw, "--out", OUT).code == 0
    Path("fix.csv").write_text(f"person_id,field,value,reason\n{people_of(raw).path[7]},age,60,so\n")
    Path("x.yaml").write_text("")
    flags = ["--data.root", raw, "--data.prepared", OUT, "--data.corrections"]
    refused(script("train", "x.yaml", *flags, "fix.csv"), "data.corrections", "fix.csv")
    refused(script("train", "x.yaml", *flags, "gone.csv"), "data.corrections", "gone.csv")


def test_relabelling_ignores_faults_of_the_eval_photos(raw, tmp_path):
    prepared = prepare(find_layout(raw), tmp_path / "prepared", PrepareOptions(2))
    (raw / "eval" / "images" / prepared.evaluation.image_id[0]).unlink()
    labels, _ = relabelled(prepared, None)
    assert labels[prepared.images.image_id].tolist() == prepared.images.label.tolist()


def test_a_fault_of_the_training_photos_that_names_the_eval_folder_is_reported(raw, tmp_path):
    prepared = prepare(find_layout(raw), tmp_path / "prepared", PrepareOptions(2))
    table, eval_images = people_of(raw), raw / "eval" / "images"
    table.loc[7, "path"] = str(eval_images)
    table.to_csv(raw / "train" / "train.csv", index=False)
    with pytest.raises(UserError) as error:
        relabelled(prepared, None)
    assert "train.csv line 9" in str(error.value)
    assert str(eval_images) in str(error.value)
