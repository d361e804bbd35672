"""Raw data through scripts/prepare.py: which data is accepted, which is refused, and the messages."""

import errno
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import refused

from maskfold.config.experiment import Config
from maskfold.data import dataset_record, prepared_folder
from maskfold.data.images_table import load_prepared
from maskfold.data.label_changes import relabelled
from maskfold.errors import UserError
from maskfold.inference.submission import submission_table
from maskfold.labels import GENDERS, KIND_MASK, age_group, encode_label
from maskfold.loading.store import open_store
from maskfold.places import Places

OUT = Path("data/prepared/raw data 사본")


def table_of(raw):
    return pd.read_csv(raw / "train" / "train.csv", dtype=str)


def edit(raw, change):
    table = table_of(raw)
    change(table)
    table.to_csv(raw / "train" / "train.csv", index=False)


def folder_of(raw, row=1):
    return raw / "train" / "images" / table_of(raw).path[row]


def photo_of(raw, kind="mask1", row=1):
    return next(folder_of(raw, row).glob(f"{kind}.*"))


def info_of(raw):
    return raw / "eval" / "info.csv"


def test_prepared_files_have_the_documented_format(script, raw):
    done = script("prepare", "--data", raw, "--folds", 3)
    assert done.code == 0, done.err
    images = pd.read_csv(OUT / "images.csv", dtype={"person_id": str})
    assert list(images) == ["image_id", "path", "person_id", "kind", "gender", "age", "mask", "label"]
    assert len(images) == 12 * 7
    assert (images.image_id == images.person_id + "/" + images.kind).all()
    assert all((raw / path).is_file() for path in images.path)
    expected = encode_label(images.kind.map(KIND_MASK), images.gender.map(GENDERS.index), age_group(images.age))
    assert (images.label == expected).all()
    # Two people share an id, but remain two people.
    assert images.person_id.nunique() == 12
    folds = pd.read_csv(OUT / "folds.csv", dtype={"person_id": str})
    assert list(folds) == ["person_id", "gender", "age", "fold"]
    assert set(folds.fold) == {0, 1, 2}
    evaluation = pd.read_csv(OUT / "eval.csv")
    assert list(evaluation) == ["image_id", "path"]
    assert (evaluation.image_id == pd.read_csv(info_of(raw)).ImageID).all()
    meta = json.loads((OUT / "dataset.json").read_text())
    assert meta["counts"] == {"people": 12, "images": 84, "eval_images": 42, "folds": 3}
    assert {"root", "fingerprint", "corrections", "warnings"} <= set(meta)


def test_more_folds_than_the_rarest_bin_is_a_warning(script, raw):
    done = script("prepare", "--data", raw, "--folds", 5)
    assert done.code == 0
    assert "has fewer people (1) than there are folds (5)" in done.out


def test_more_folds_than_people_is_refused(script, raw):
    refused(script("prepare", "--data", raw, "--folds", 13), "folds 13", "12 people")
    assert not (OUT / "dataset.json").exists()


def _unlink(path):
    path.unlink()


def _twice(raw):
    photo = photo_of(raw)
    shutil.copy(photo, photo.with_suffix(".jpeg"))


def _cut(path):
    path.write_bytes(path.read_bytes()[:-2000])


def _append(path, line):
    path.write_text(path.read_text() + line + "\n")


def _set(column, value, row=1):
    return lambda raw: edit(
        raw, lambda table: table.__setitem__(column, table[column].where(table.index != row, value))
    )


def _drop(column):
    return lambda raw: table_of(raw).drop(columns=column).to_csv(raw / "train" / "train.csv", index=False)


def _png(raw, spoil):
    """Replace a photo by a PNG whose bytes are damaged by `spoil`."""
    photo = photo_of(raw)
    _, png = cv2.imencode(".png", cv2.imread(str(photo)))
    _unlink(photo)
    photo.with_suffix(".png").write_bytes(spoil(png.tobytes()))


def _png_cut(raw):
    _png(raw, lambda png: png[: len(png) // 2])


def _swap_for(name):
    """Replace the first ImageID of info.csv."""

    def change(raw):
        table = pd.read_csv(info_of(raw))
        table.loc[0, "ImageID"] = name
        table.to_csv(info_of(raw), index=False)

    return change


FAULTS = {
    "no train.csv": (lambda raw: _unlink(raw / "train" / "train.csv"), ["train.csv", "not found"]),
    "empty train.csv": (lambda raw: (raw / "train" / "train.csv").write_text(""), ["train.csv", "empty"]),
    "train.csv of its header": (
        lambda raw: (raw / "train" / "train.csv").write_text("id,gender,race,age,path\n"),
        ["no rows"],
    ),
    "binary train.csv": (
        lambda raw: (raw / "train" / "train.csv").write_bytes(bytes(range(256))),
        ["train.csv", "not text"],
    ),
    "not UTF-8": (
        lambda raw: (raw / "train" / "train.csv").write_bytes(b"id,gender\n\xff\xfe,1\n"),
        ["train.csv", "UTF-8"],
    ),
    "ragged train.csv": (
        lambda raw: _append(raw / "train" / "train.csv", "1,2,3,4,5,6,7,8"),
        ["train.csv", "double quotes"],
    ),
    "no age column": (_drop("age"), ["train.csv", "column age"]),
    "no path column": (_drop("path"), ["train.csv", "column path"]),
    "no images": (lambda raw: shutil.rmtree(raw / "train" / "images"), ["images", "no such folder"]),
    "no folder": (lambda raw: shutil.rmtree(folder_of(raw)), ["folder is missing"]),
    "no photo": (lambda raw: _unlink(photo_of(raw, "normal")), ["normal", "missing"]),
    "photo twice": (_twice, ["mask1.jpeg", "two files of the same photo"]),
    "empty photo": (lambda raw: photo_of(raw).write_bytes(b""), ["mask1", "empty"]),
    "photo truncated": (lambda raw: _cut(photo_of(raw)), ["mask1", "truncated"]),
    "png truncated": (_png_cut, ["mask1.png", "truncated"]),
    "text for a photo": (lambda raw: photo_of(raw).write_text("no image"), ["mask1", "not a JPEG or PNG"]),
    "nothing but a JPEG's ends": (
        lambda raw: photo_of(raw).write_bytes(b"\xff\xd8\xff\xda00\xff\xd9"),
        ["mask1", "decoded"],
    ),
    "eval photo truncated": (lambda raw: _cut(next((raw / "eval" / "images").glob("[0-9a-f]*.jpg"))), ["truncated"]),
    "ImageID without a file": (_swap_for("nothere.jpg"), ["info.csv line 2", "nothere.jpg"]),
    "ImageID twice": (
        lambda raw: _append(info_of(raw), pd.read_csv(info_of(raw)).ImageID[0] + ",0"),
        ["already listed in line 2"],
    ),
    "ImageID above": (_swap_for("../info.csv"), ["../info.csv", "outside"]),
    "ImageID absolute": (_swap_for("/etc/passwd"), ["/etc/passwd", "outside"]),
    "no info.csv": (lambda raw: _unlink(info_of(raw)), ["info.csv", "not found"]),
    "empty info.csv": (lambda raw: info_of(raw).write_text(""), ["info.csv", "empty"]),
    "folder twice": (lambda raw: _set("path", table_of(raw).path[0])(raw), ["line 3", "already listed in line 2"]),
    "age in words": (_set("age", "old"), ["line 3", "'old'"]),
    "age in parts": (_set("age", "30.5"), ["line 3", "'30.5'"]),
    "no age": (_set("age", ""), ["line 3", "age"]),
    "age below": (_set("age", "-3"), ["line 3", "'-3'"]),
    "age zero": (_set("age", "0"), ["line 3", "'0'"]),
    "age beyond": (_set("age", "200"), ["line 3", "'200'"]),
    "third gender": (_set("gender", "femail"), ["line 3", "'femail'", "female"]),
    "path above": (_set("path", "../../secret"), ["line 3", "outside"]),
    "path absolute": (_set("path", "/etc"), ["line 3", "outside"]),
    "path of Windows": (_set("path", "C:\\people"), ["line 3", "outside"]),
    "path of nothing": (_set("path", "./"), ["line 3", "outside"]),
    "column twice": (
        lambda raw: (
            table_of(raw)
            .assign(age2=1)
            .rename(columns={"age2": "age"})
            .to_csv(raw / "train" / "train.csv", index=False)
        ),
        ["column age", "twice"],
    ),
    "a cell too many in every row": (
        lambda raw: (raw / "train" / "train.csv").write_text(
            "id,gender,race,age,path\n1,male,A,20,p,x\n2,male,A,20,q,x\n"
        ),
        ["train.csv", "double quotes"],
    ),
    "png damaged": (lambda raw: _png(raw, lambda png: png[:-300] + bytes(40) + png[-260:]), ["mask1.png", "damaged"]),
    "png without its middle": (lambda raw: _png(raw, lambda png: png[:2000] + png[9000:]), ["mask1.png"]),
    "eval a file": (lambda raw: (shutil.rmtree(raw / "eval"), (raw / "eval").write_text("")), ["eval", "is a file"]),
    "no path": (_set("path", ""), ["line 3", "outside"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_message_and_nothing_is_written(script, raw, fault):
    spoil, words = FAULTS[fault]
    spoil(raw)
    refused(script("prepare", "--data", raw), *words)
    assert not OUT.exists() or not any(OUT.iterdir())


def test_train_reports_the_same_faults_and_starts_no_run(script, raw, tmp_path):
    (tmp_path / "x.yaml").write_text("")
    _cut(photo_of(raw))
    refused(script("train", "x.yaml", "--data.root", raw, "--run.wandb", "disabled"), "truncated")
    assert not Path("runs").exists()


def test_many_faults_are_reported_together(script, raw):
    missing = folder_of(raw, 4)
    shutil.rmtree(missing)
    _set("age", "old", row=2)(raw)
    _cut(photo_of(raw, "mask3", row=1))
    photo_of(raw, "normal", row=0).unlink()
    _swap_for("nothere.jpg")(raw)
    refused(script("prepare", "--data", raw), "5 faults", missing.name, "'old'", "mask3", "normal", "nothere.jpg")


def test_no_data_root(script):
    refused(script("prepare", "--data", "nowhere"), "nowhere", "train/")
    refused(script("prepare"), "SM_CHANNEL_TRAIN")


def test_other_files_and_unlisted_photos_are_not_faults(script, raw):
    (folder_of(raw) / "._mask1.png").write_bytes(b"junk")
    (folder_of(raw) / "Thumbs.db").write_bytes(b"junk")
    (raw / "train" / "images" / "._junk").write_bytes(b"junk")
    (raw / "eval" / "images" / ".DS_Store").write_bytes(b"junk")
    shutil.copytree(folder_of(raw), raw / "train" / "images" / "nobody")
    shutil.copy(photo_of(raw), folder_of(raw) / "selfie.jpg")
    done = script("prepare", "--data", raw)
    assert done.code == 0, done.err
    assert "nobody" in done.out
    assert "selfie.jpg" in done.out


def test_without_an_eval_set(script, raw):
    shutil.rmtree(raw / "eval")
    done = script("prepare", "--data", raw)
    assert done.code == 0
    assert "no submission" in done.out
    assert not (OUT / "eval.csv").exists()


def test_suffixes_in_any_case(script, raw):
    photo = photo_of(raw, "mask2")
    photo.rename(photo.with_suffix(".JPG"))
    assert script("prepare", "--data", raw).code == 0


def test_the_root_may_be_read_only(script, raw):
    before = sorted((path, path.stat().st_mtime_ns) for path in raw.rglob("*"))
    for path in [raw, *raw.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert script("prepare", "--data", raw).code == 0
        assert sorted((path, path.stat().st_mtime_ns) for path in raw.rglob("*")) == before
    finally:
        for path in [raw, *raw.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize("verb", ["prepare", "train"])
def test_a_prepared_folder_of_other_photos_is_refused(script, raw, tmp_path, verb):
    """A copy of the photos in another place is accepted; with one photo changed it is not."""
    assert script("prepare", "--data", raw, "--out", "mine").code == 0
    before = (tmp_path / "mine" / "dataset.json").read_text()
    other = Path(shutil.copytree(raw, tmp_path / "other"))
    for photo in (photo_of(other, "mask4"), next((other / "eval" / "images").iterdir())):
        content = photo.read_bytes()
        image = np.full((512, 384, 3), 7, np.uint8)
        photo.write_bytes(cv2.imencode(photo.suffix, image)[1].tobytes())
        if verb == "prepare":
            done = script("prepare", "--data", other, "--out", "mine")
        else:
            Path("x.yaml").write_text("run: {wandb: disabled}")
            done = script("train", "x.yaml", "--data.root", other, "--data.prepared", "mine")
        refused(done, "mine", str(other), "--data.prepared")
        assert "delete" not in done.err
        assert (tmp_path / "mine" / "dataset.json").read_text() == before
        photo.write_bytes(content)
    done = script("prepare", "--data", other, "--out", "mine")
    assert done.code == 0, done.err


def test_a_moved_project_is_prepared_to_the_same_bytes(script, raw, tmp_path, monkeypatch):
    """Also from another working directory, and where nothing may be written because nothing changes."""
    before, after = tmp_path / "before", tmp_path / "after"
    shutil.copytree(raw, before / "data" / "demo")
    (before / "data" / "demo" / "train" / "images" / "nobody").mkdir()
    monkeypatch.chdir(before)
    assert script("prepare", "--data", "data/demo", "--folds", 3).code == 0
    content = {path.name: path.read_bytes() for path in Path("data/prepared/demo").iterdir()}
    meta = json.loads(content["dataset.json"])
    assert (meta["root"], meta["eval"]) == ("data/demo", "data/demo/eval")
    assert meta["warnings"]
    before.rename(after)
    monkeypatch.chdir(after)
    assert script("prepare", "--data", "data/demo").code == 0
    prepared = after / "data" / "prepared" / "demo"
    assert {path.name: path.read_bytes() for path in prepared.iterdir()} == content
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepared_folder, "why_not_writable", lambda folder: "read-only")
    monkeypatch.setattr(dataset_record, "write_text", None)
    done = script("prepare", "--data", after / "data" / "demo", "--out", prepared)
    assert done.code == 0, done.err
    assert {path.name: path.read_bytes() for path in prepared.iterdir()} == content


def test_photos_are_found_where_the_data_was_moved(script, raw, tmp_path, monkeypatch):
    """Training and eval photos in places of their own, both moved."""
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(raw / "train" / "images"))
    shutil.move(raw / "eval", tmp_path / "eval set")
    monkeypatch.setenv("SM_CHANNEL_EVAL", str(tmp_path / "eval set"))
    assert script("prepare", "--out", "p").code == 0
    moved = Path(shutil.move(raw, tmp_path / "moved"))
    moved_eval = Path(shutil.move(tmp_path / "eval set", tmp_path / "moved eval"))
    monkeypatch.delenv("SM_CHANNEL_TRAIN")
    monkeypatch.delenv("SM_CHANNEL_EVAL")
    prepared = load_prepared(Path("p"))
    with pytest.raises(UserError, match=r"raw data 사본: the raw data is no longer at this path.*--data\.root"):
        prepared.photo_paths(prepared.images)
    prepared = load_prepared(Path("p"), Places(root=moved))
    assert all(path.is_file() for path in prepared.photo_paths(prepared.images))
    with pytest.raises(UserError, match=r"eval set: the eval set is no longer at this path.*--data\.root"):
        prepared.photo_paths(prepared.evaluation)
    monkeypatch.setenv("SM_CHANNEL_EVAL", str(moved_eval))
    paths = load_prepared(Path("p"), Places(root=moved)).photo_paths(prepared.evaluation)
    assert [path.name for path in paths] == prepared.evaluation.image_id.tolist()
    assert all(path.is_file() for path in paths)
    other = load_prepared(Path("p"), Places(root=moved_eval))
    with pytest.raises(UserError, match=r"--data\.root .*prepared from other data"):
        other.photo_paths(other.images)


def test_a_prepared_folder_that_cannot_be_written_is_prepared_after_a_move(script, raw, tmp_path, monkeypatch):
    """All recorded places are absolute and gone, and the corrections lie elsewhere."""
    (folder_of(raw) / "selfie.png").write_bytes(b"not used")
    Path("fix.csv").write_text(f"person_id,field,value,reason\n{table_of(raw).path[0]},age,61,so\n")
    disk = tmp_path.parent / f"{tmp_path.name} disk"
    out = disk / "prepared"
    assert script("prepare", "--data", raw, "--out", out, "--folds", 3, "--corrections", "fix.csv").code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    moved = Path(shutil.move(raw, tmp_path / "moved"))
    fixes = Path(shutil.move("fix.csv", tmp_path / "fixes.csv"))

    def refuse(path, text):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(prepared_folder, "why_not_writable", lambda folder: os.strerror(errno.EROFS))
    monkeypatch.setattr(dataset_record, "write_text", refuse)
    done = script("prepare", "--data", moved, "--out", out, "--corrections", fixes, "--folds", 2)
    assert done.code == 0, done.err
    assert "3 folds and is kept" in done.out
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    # An age that changes no label is in images.csv too.
    row = table_of(moved).age.tolist().index("60")
    edit(moved, lambda table: table.loc.__setitem__((row, "age"), "61"))
    done = script("prepare", "--data", moved, "--out", out, "--corrections", fixes)
    refused(done, os.strerror(errno.EROFS))


def test_another_eval_folder_is_not_taken_for_the_eval_set(script, raw, tmp_path, monkeypatch):
    """Any folder above may hold a folder `eval`, such as that of another competition."""
    project = tmp_path / "before"
    project.mkdir()
    monkeypatch.chdir(project)
    assert script("prepare", "--data", Path(shutil.move(raw, "data")), "--out", "p").code == 0
    project = project.rename(tmp_path / "after")
    monkeypatch.chdir(tmp_path)
    shutil.move(project / "data" / "eval", tmp_path / "moved eval")
    other = project / "eval"
    shutil.copytree(tmp_path / "moved eval", other)
    for photo in (other / "images").iterdir():
        photo.rename(photo.with_stem(f"other {photo.stem}"))
    prepared = load_prepared(project / "p")
    with pytest.raises(UserError, match="the eval set is no longer at this path"):
        prepared.photo_paths(prepared.evaluation)
    shutil.copytree(tmp_path / "moved eval", tmp_path / "eval")
    assert prepared.eval_dir == tmp_path / "eval"


def test_warnings_do_not_name_the_place(script, raw, tmp_path, monkeypatch):
    """Not even where the name of the data folder is a part of other names."""
    folder = folder_of(raw)
    for name in ("raw.jpg", "a.b.png"):
        (folder / name).write_bytes(b"not used")
    edit(raw, lambda table: table.__setitem__("path", table.path.str.upper()))
    shutil.copy(next((raw / "eval" / "images").glob("[!.]*")), raw / "eval" / "images" / "unlisted.jpg")
    (raw / "train" / "images" / "nobody").mkdir()
    warnings = []
    for root, working_directory in ((Path(), raw), (raw, tmp_path), (tmp_path / "r", tmp_path)):
        if root.name == "r":
            raw.rename(root)
        monkeypatch.chdir(working_directory)
        out = tmp_path / f"out {len(warnings)}"
        assert script("prepare", "--data", root, "--out", out, "--folds", 3).code == 0
        assert script("prepare", "--data", root, "--out", out, "--folds", 2).code == 0
        warnings.append(json.loads((out / "dataset.json").read_text())["warnings"])
    assert warnings[0] == warnings[1] == warnings[2]
    text = "\n".join(warnings[0])
    for name in (f"train/images/{folder.name}: not used: a.b.png, raw.jpg", "train/train.csv", "eval/images", "nobody"):
        assert name in text
    assert str(tmp_path) not in text


def test_faults_of_another_root_are_listed(script, raw, tmp_path):
    assert script("prepare", "--data", raw, "--out", "mine").code == 0
    other = Path(shutil.copytree(raw, tmp_path / "other"))
    photo_of(other, "mask4").unlink()
    info_of(other).unlink()
    Path("x.yaml").write_text("run: {wandb: disabled}")
    done = script("train", "x.yaml", "--data.root", other, "--data.prepared", "mine")
    refused(done, "2 faults", "mask4", "info.csv", "mine was prepared from")


def test_changed_data_may_be_other_data(script, raw, tmp_path):
    """The first advice is to name the right data: to prepare another one again would lose the prepared folder."""
    assert script("prepare", "--data", raw, "--out", "mine").code == 0
    other = Path(shutil.copytree(raw, tmp_path / "other"))
    photo = photo_of(other)
    photo.write_bytes(photo.read_bytes() + b"\0")
    table_of(other).drop(index=2).to_csv(other / "train" / "train.csv", index=False)
    info_of(other).write_text("\n".join(info_of(other).read_text().splitlines()[:-1]))
    prepared = load_prepared(Path("mine"), Places(root=other))
    for call in (
        lambda: open_store(prepared, prepared.images, Config(data={"image_size": (32, 32)}).data),
        lambda: relabelled(prepared, None),
        lambda: submission_table(prepared.evaluation.image_id, np.zeros(len(prepared.evaluation), int), prepared),
    ):
        with pytest.raises(
            UserError,
            match=r"(changed|labelled differently) .*set --data\.root to .* from which mine was prepared, or prepare the",
        ):
            call()


def test_folds_are_kept_when_prepared_again(script, raw):
    assert script("prepare", "--data", raw, "--folds", 3).code == 0
    before = (OUT / "folds.csv").read_text()
    done = script("prepare", "--data", raw, "--folds", 4, "--seed", 7)
    assert done.code == 0
    assert "3 folds and is kept" in done.out
    assert (OUT / "folds.csv").read_text() == before


def test_a_kill_while_preparing_again_leaves_no_valid_folder(script, raw, monkeypatch):
    """New labels never stand beside the fingerprint of the old ones: the folder is incomplete until the last write."""
    assert script("prepare", "--data", raw, "--folds", 3).code == 0
    table = table_of(raw)
    Path("fix.csv").write_text(f"person_id,field,value,reason\n{table.path[0]},age,61,so\n")
    write = dataset_record.write_text

    def killed_at_meta(path, text):
        if path.name == "dataset.json":
            raise KeyboardInterrupt
        write(path, text)

    before = (OUT / "images.csv").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(dataset_record, "write_text", killed_at_meta)
        assert script("prepare", "--data", raw, "--corrections", "fix.csv").code == 130
    assert (OUT / "images.csv").read_bytes() != before
    with pytest.raises(UserError, match=r"dataset\.json"):
        load_prepared(OUT)
    assert script("prepare", "--data", raw, "--corrections", "fix.csv").code == 0
    assert load_prepared(OUT).num_folds == 3


def test_other_people_than_folds_csv_are_refused(script, raw):
    assert script("prepare", "--data", raw, "--folds", 3).code == 0
    before = {path.name: path.read_bytes() for path in OUT.iterdir() if path.is_file()}
    table_of(raw).drop(index=3).to_csv(raw / "train" / "train.csv", index=False)
    refused(script("prepare", "--data", raw), "folds.csv", "people are not those")
    assert {path.name: path.read_bytes() for path in OUT.iterdir() if path.is_file()} == before


def test_the_organisers_environment(script, raw, monkeypatch, tmp_path):
    """train and eval may be in different places."""
    elsewhere = tmp_path / "elsewhere"
    shutil.move(raw / "eval", elsewhere)
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(raw / "train" / "images"))
    monkeypatch.setenv("SM_CHANNEL_EVAL", str(elsewhere))
    done = script("prepare")
    assert done.code == 0, done.err
    evaluation = pd.read_csv(OUT / "eval.csv")
    assert len(evaluation) == 42
    assert all((raw / path).is_file() for path in evaluation.path)
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(tmp_path / "gone"))
    refused(script("prepare"), "SM_CHANNEL_TRAIN", "gone")


def test_fingerprint_depends_on_content_not_on_the_path(script, raw, tmp_path):
    def fingerprint(root, out):
        assert script("prepare", "--data", root, "--out", out).code == 0
        return json.loads((Path(out) / "dataset.json").read_text())["fingerprint"]

    first = fingerprint(raw, "a")
    assert fingerprint(shutil.copytree(raw, tmp_path / "moved"), "b") == first
    photo = photo_of(raw, "mask4")
    image = np.zeros((512, 384, 3), np.uint8)
    photo.write_bytes(cv2.imencode(photo.suffix, image)[1].tobytes())
    assert fingerprint(raw, "a") != first


def test_faults_do_not_hide_other_faults(script, raw):
    """A person with an invalid age also lacks a photo; both train.csv and info.csv have faults."""
    _set("age", "old")(raw)
    photo_of(raw, "mask2").unlink()
    refused(script("prepare", "--data", raw), "2 faults", "'old'", "mask2")
    (raw / "train" / "train.csv").write_text("")
    _swap_for("nothere.jpg")(raw)
    refused(script("prepare", "--data", raw), "2 faults", "train.csv", "nothere.jpg")


def test_a_person_called_na(script, raw):
    """pandas reads NA as a missing value by default."""
    table = table_of(raw)
    (raw / "train" / "images" / table.path[1]).rename(raw / "train" / "images" / "NA")
    _set("path", "NA")(raw)
    for _ in range(2):
        assert script("prepare", "--data", raw).code == 0
    assert "NA" in set(pd.read_csv(OUT / "folds.csv", keep_default_na=False).person_id)


def test_a_file_name_that_is_not_utf8(script, raw):
    (folder_of(raw) / os.fsdecode(b"\xb0\xa1.jpg")).write_bytes(b"x")
    done = script("prepare", "--data", raw)
    assert done.code == 0, done.err
    assert "xb0" in done.out


def test_tiny_photos_are_accepted(script, raw):
    photo = photo_of(raw)
    photo.unlink()
    cv2.imwrite(str(photo.with_suffix(".png")), np.zeros((1, 3, 3), np.uint8))
    assert script("prepare", "--data", raw).code == 0


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("folds.csv", ""),
        ("folds.csv", "person_id,fold\na,0\n"),
        ("folds.csv", "person_id,gender,age,fold\na,male,20,x\n"),
        ("folds.csv", "\xff\xfe\x00"),
        ("images.csv", "image_id\n"),
        ("dataset.json", "{}"),
        ("dataset.json", "{"),
        ("dataset.json", "[" * 50_000),
        ("folds.csv", "person_id,gender,age,fold\na,male,20,0\nb,male,20,99999999999999999999\n"),
    ],
)
def test_a_damaged_prepared_folder_is_refused(script, raw, file, text):
    assert script("prepare", "--data", raw, "--folds", 3).code == 0
    (OUT / file).write_text(text)
    Path("x.yaml").write_text("")
    refused(script("train", "x.yaml", "--data.root", raw, "--run.wandb", "disabled"), file)
    if file != "images.csv":
        refused(script("prepare", "--data", raw), file)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"root": 5}, "root"),
        ({"counts": []}, "counts"),
        ({"counts": {"people": 1, "images": 7, "eval_images": "x", "folds": 2}}, "counts.eval_images"),
        ({"corrections": {"file": "x"}}, "corrections.changed"),
        ({"warnings": "none"}, "warnings"),
        ({"fold_seed": 1.5}, "fold_seed"),
    ],
)
def test_a_damaged_description_names_the_key(script, raw, change, key):
    assert script("prepare", "--data", raw, "--folds", 3).code == 0
    meta = json.loads((OUT / "dataset.json").read_text())
    (OUT / "dataset.json").write_text(json.dumps(meta | change))
    Path("x.yaml").write_text("")
    refused(script("train", "x.yaml", "--data.root", raw, "--run.wandb", "disabled"), "dataset.json", f" {key}")


@pytest.mark.parametrize("change", ["gap", "negative", "one", "label"])
def test_edited_folds_and_labels_are_refused(script, raw, change):
    assert script("prepare", "--data", raw, "--folds", 3).code == 0
    name = "images.csv" if change == "label" else "folds.csv"
    table = pd.read_csv(OUT / name)
    if change == "label":
        table.loc[5, "label"] = (table.label[5] + 1) % 18
    else:
        table["fold"] = {"gap": table.fold * 2, "negative": table.fold - 1, "one": 0}[change]
    table.to_csv(OUT / name, index=False)
    Path("x.yaml").write_text("")
    refused(script("train", "x.yaml", "--data.root", raw, "--run.wandb", "disabled"), name)


def test_the_fold_seed_is_that_of_the_kept_folds(script, raw):
    assert script("prepare", "--data", raw, "--folds", 3, "--seed", 5).code == 0
    assert script("prepare", "--data", raw, "--seed", 7).code == 0
    assert json.loads((OUT / "dataset.json").read_text())["fold_seed"] == 5
