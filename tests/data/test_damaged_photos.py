"""Photos that cannot be read: one error that names all of them, or left out with --skip-damaged."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import refused, tiny_args

from maskfold.data.damaged_photos import skipped_eval_ids, skipped_people
from maskfold.data.decode import read_photo
from maskfold.data.images_table import META_FILE, load_prepared, read_meta
from maskfold.data.label_changes import applied_corrections
from maskfold.errors import UserError
from maskfold.photos.jpeg_header import read_jpeg_header

OUT = Path("data/prepared/raw data 사본")


def zero_middle(path: Path) -> None:
    """Overwrite a third of the data of a JPEG; its end stays."""
    content = bytearray(path.read_bytes())
    start = read_jpeg_header(bytes(content)).scan_start
    size = (len(content) - start) // 3
    content[start + size : start + 2 * size] = bytes(size)
    path.write_bytes(content)


@pytest.fixture
def spoiled(raw):
    """Raw data with two damaged photos of one person, and two eval photos, one of them in another format."""
    people = pd.read_csv(raw / "train" / "train.csv", dtype=str).path
    folder = raw / "train" / "images" / people[1]
    photos = [next(folder.glob(f"{kind}.*")) for kind in ("mask1", "normal")]
    zero_middle(photos[0])
    photos[1].write_bytes(photos[1].read_bytes()[:-500])
    names = pd.read_csv(raw / "eval" / "info.csv").ImageID
    eval_photos = [raw / "eval" / "images" / name for name in names[[3, 20]]]
    zero_middle(eval_photos[0])
    eval_photos[1].write_bytes(b"RIFF\0\0\0\0WEBPVP8 " + bytes(100))
    return raw, people[1], photos, eval_photos


def test_all_are_errors_by_default(script, spoiled):
    raw, _, photos, eval_photos = spoiled
    done = script("prepare", "--data", raw)
    refused(
        done, "4 faults", "--skip-damaged", "damaged inside", "truncated", "WebP", *map(str, [*photos, *eval_photos])
    )
    assert not OUT.exists()


def test_skip_damaged_leaves_out_people_and_eval_photos(script, spoiled):
    raw, person, photos, eval_photos = spoiled
    done = script("prepare", "--data", raw, "--skip-damaged")
    assert done.code == 0, done.err
    assert all(path.name in done.out for path in [*photos, *eval_photos])
    assert "1 person is left out" in done.out
    prepared = load_prepared(OUT)
    assert len(prepared.images) == 11 * 7
    assert person not in set(prepared.images.person_id) | set(prepared.folds.person_id)
    assert not {path.name for path in eval_photos} & set(prepared.evaluation.image_id)
    assert prepared.num_eval_people == 6
    skipped = json.loads((OUT / "dataset.json").read_text())["skipped"]
    assert skipped["people"] == [person]
    assert {row["image_id"] for row in skipped["eval"]} == {path.name for path in eval_photos}
    assert [raw / row["path"] for row in skipped["train"]] == photos
    # The audit compares the prepared labels with the raw folder, in which the person still is.
    assert applied_corrections(prepared).empty


def test_without_damage_the_flag_changes_nothing(script, raw):
    flags = {"one": (), "other": ("--skip-damaged",)}
    for out, flag in flags.items():
        assert script("prepare", "--data", raw, "--folds", 2, "--out", out, *flag).code == 0
    one, other = ({path.name: path.read_bytes() for path in Path(out).iterdir() if path.is_file()} for out in flags)
    assert one == other


def test_folds_of_finished_runs_are_not_changed(script, spoiled, synthetic):
    """An older version prepared the folder, damaged photos included, and its runs need the folds."""
    raw, person, photos, eval_photos = spoiled
    intact = {path: path.read_bytes() for path in [*photos, *eval_photos]}
    for path in intact:
        path.write_bytes((synthetic / path.relative_to(raw)).read_bytes())
    assert script("prepare", "--data", raw, "--out", "p").code == 0
    before = {path.name: path.read_bytes() for path in Path("p").iterdir()}
    for path, content in intact.items():
        path.write_bytes(content)
    refused(script("prepare", "--data", raw, "--out", "p"), "4 faults", "--skip-damaged", "another --out")
    refused(script("prepare", "--data", raw, "--out", "p", "--skip-damaged"), "folds.csv", person, "another")
    assert {path.name: path.read_bytes() for path in Path("p").iterdir()} == before
    done = script("prepare", "--data", raw, "--out", "other", "--skip-damaged")
    assert done.code == 0, done.err
    assert len(load_prepared(Path("p")).folds) == len(load_prepared(Path("other")).folds) + 1
    # Eval photos are in no fold.
    for path in photos:
        path.write_bytes((synthetic / path.relative_to(raw)).read_bytes())
    done = script("prepare", "--data", raw, "--out", "p")
    refused(done, "2 faults", "--skip-damaged")
    assert "another --out" not in done.err
    assert script("prepare", "--data", raw, "--out", "p", "--skip-damaged").code == 0
    assert Path("p/folds.csv").read_bytes() == before["folds.csv"]


def test_other_faults_stay_errors(script, spoiled):
    raw, _, photos, _ = spoiled
    photos[0].unlink()
    refused(script("prepare", "--data", raw, "--skip-damaged"), "1 fault", "mask1", "missing")


def test_the_submission_has_a_row_for_every_eval_photo(script, spoiled, tmp_path):
    raw, _, _, eval_photos = spoiled
    assert script("prepare", "--data", raw, "--folds", 2, "--skip-damaged", "--out", "p").code == 0
    done = script("train", *tiny_args(raw, "--data.prepared", "p", "--name", "skipping"))
    assert done.code == 0, done.err
    done = script("submit", "skipping", "--out", "a.csv")
    assert done.code == 0, done.err
    assert all(path.name in done.out for path in eval_photos)
    submission, prepared = pd.read_csv("a.csv"), load_prepared(Path("p"))
    assert submission.ImageID.tolist() == pd.read_csv(raw / "eval" / "info.csv").ImageID.tolist()
    most_frequent = int(np.bincount(prepared.images.label).argmax())
    damaged = submission.ImageID.isin([path.name for path in eval_photos])
    assert submission.ans[damaged].tolist() == [most_frequent] * 2
    assert json.loads(Path("a.json").read_text())["skipped"] == {
        "image_id": [path.name for path in eval_photos],
        "ans": most_frequent,
    }
    shutil.copy("a.csv", "before.csv")
    assert script("submit", "--from", "a.json").code == 0
    assert Path("a.csv").read_bytes() == Path("before.csv").read_bytes()


@pytest.mark.parametrize("skipped", [3, [], {}, {"eval": 1}, {"people": ["a"], "train": [], "eval": ["a"]}])
def test_a_damaged_list_in_dataset_json_is_a_user_error(trained, tmp_path, skipped):
    meta = json.loads((trained.prepared / META_FILE).read_text())
    (tmp_path / META_FILE).write_text(json.dumps(meta | {"skipped": skipped}))
    with pytest.raises(UserError, match=r"dataset\.json: skipped"):
        read_meta(tmp_path)
    for valid in (meta | {"skipped": None}, {key: value for key, value in meta.items() if key != "skipped"}):
        (tmp_path / META_FILE).write_text(json.dumps(valid))
        assert skipped_eval_ids(read_meta(tmp_path)) == skipped_people(read_meta(tmp_path)) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_file_that_cannot_be_read_is_reported_or_left_out(script, raw, monkeypatch, number):
    """A bad block of a disk, or a file of another user."""
    people = pd.read_csv(raw / "train" / "train.csv", dtype=str).path
    bad = next((raw / "train" / "images" / people[1]).glob("mask1.*"))
    bad_eval = raw / "eval" / "images" / pd.read_csv(raw / "eval" / "info.csv").ImageID[3]
    read_bytes = Path.read_bytes

    def fail(path: Path) -> bytes:
        if path in (bad, bad_eval):
            raise OSError(number, os.strerror(number), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", fail)
    refused(
        script("prepare", "--data", raw), "2 faults", str(bad), str(bad_eval), os.strerror(number), "--skip-damaged"
    )
    done = script("prepare", "--data", raw, "--skip-damaged")
    assert done.code == 0, done.err
    prepared = load_prepared(OUT)
    assert skipped_people(prepared.meta) == [people[1]]
    assert skipped_eval_ids(prepared.meta) == [bad_eval.name]
    with pytest.raises(UserError, match=re.escape(str(bad)) + ".*" + os.strerror(number)):
        read_photo(bad)


def test_too_many_open_files_are_not_the_fault_of_a_photo(script, raw, monkeypatch):
    read_bytes = Path.read_bytes

    def fail(path: Path) -> bytes:
        if path.suffix != ".csv":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", fail)
    refused(script("prepare", "--data", raw, "--skip-damaged"), "too many open files")
    assert not OUT.exists()
