"""Tables and names as people and spreadsheets write them, through scripts/prepare.py and scripts/evaluate.py."""

import io
import shutil
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import refused

from maskfold.data import dataset_record, prepared_folder
from maskfold.data.images_table import load_prepared
from maskfold.labels import KIND_MASK
from maskfold.places import Places

PEOPLE = 4
OUT = Path("data/prepared/root")


def nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def nfd(name: str) -> str:
    return unicodedata.normalize("NFD", name)


@pytest.fixture(scope="session")
def small_root(tmp_path_factory) -> Path:
    """Noise photos of a few people, two with Korean names, and two eval photos."""
    root = tmp_path_factory.mktemp("small") / "root"
    photo = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (24, 18, 3), np.uint8))[1].tobytes()
    rows = ["id,gender,race,age,path"]
    for number in range(PEOPLE):
        gender, age, race = ("male", "female")[number % 2], (22, 40, 60)[number % 3], ("Asian", "한국")[number // 2]
        name = f"{number:06d}_{gender}_{race}_{age}"
        rows.append(f"{number:06d},{gender},Asian,{age},{name}")
        folder = root / "train" / "images" / name
        folder.mkdir(parents=True)
        for kind in KIND_MASK:
            (folder / f"{kind}.jpg").write_bytes(photo)
    (root / "train" / "train.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (root / "eval" / "images").mkdir(parents=True)
    for name in ("e0.jpg", "é1.jpg"):
        (root / "eval" / "images" / name).write_bytes(photo)
    (root / "eval" / "info.csv").write_text("ImageID,ans\ne0.jpg,0\né1.jpg,0\n", encoding="utf-8")
    return root


@pytest.fixture
def root(small_root, tmp_path) -> Path:
    """A copy which a test may change."""
    return Path(shutil.copytree(small_root, tmp_path / "root"))


@pytest.fixture(scope="session")
def plain(small_root, tmp_path_factory) -> dict[str, bytes]:
    """The tables that prepare.py writes for the unchanged data."""
    from maskfold.data.prepared_folder import PrepareOptions, prepare
    from maskfold.data.raw_layout import find_layout

    folder = prepare(find_layout(small_root), tmp_path_factory.mktemp("plain") / "out", PrepareOptions(2)).folder
    return tables(folder)


def tables(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("images.csv", "folds.csv", "eval.csv")}


def rows_changed(change):
    """A form of a table in which `change` is applied to each line but the header."""
    return lambda text: "\n".join([text.split("\n")[0], *map(change, text.split("\n")[1:])]).encode()


def with_index(text):
    lines = text.splitlines()
    return "".join(f"{'' if number == 0 else number - 1},{line}\n" for number, line in enumerate(lines)).encode()


def quoted(text):
    return "".join(",".join(f'"{cell}"' for cell in line.split(",")) + "\r\n" for line in text.splitlines()).encode()


FORMS = {
    "UTF-8 with a mark and CRLF": lambda text: ("\ufeff" + text.replace("\n", "\r\n")).encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "CR CR LF": lambda text: text.replace("\n", "\r\r\n").encode(),
    "UTF-16 with tabs": lambda text: text.replace(",", "\t").encode("utf-16"),
    "UTF-16 BE": lambda text: ("\ufeff" + text).encode("utf-16-be"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "CP949": lambda text: text.replace("Asian,", "한국인,").encode("cp949"),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "sep line": lambda text: ("sep=;\r\n" + text.replace(",", ";")).encode(),
    "tabs": lambda text: text.replace(",", "\t").encode(),
    "quotes": quoted,
    "trailing columns": lambda text: text.replace("\n", ",,,\r\n").encode(),
    "index column": with_index,
    "blank rows": lambda text: (text.replace("\n", "\n\n,,,,\n", 2) + ",,,,\n" * 3).encode(),
    "no line end": lambda text: text.rstrip("\n").encode(),
    "blanks": lambda text: text.replace(",", " , ").replace("\n", " \n").encode(),
    "no-break spaces": rows_changed(lambda line: line.replace(",", "\u00a0,") + ("\u00a0" if line else "")),
    "columns in capitals": lambda text: text.replace("id,gender,race,age,path", "ID,GENDER,RACE,AGE,PATH").encode(),
    "more columns": lambda text: text.replace("\n", ",note\n").encode(),
    "ages as floats": lambda text: text.replace(",22,", ",22.0,").replace(",40,", ",40.00,").encode(),
    "ages with a decimal comma": lambda text: text.replace(",", ";").replace(";22;", ";22,0;").encode(),
    "genders in capitals": lambda text: text.replace(",male,", ",Male,").replace(",female,", ",FEMALE,").encode(),
    "NFD": lambda text: nfd(text).encode(),
    "paths in capitals": rows_changed(lambda line: ",".join([*line.split(",")[:-1], line.split(",")[-1].upper()])),
}


def same_names(content: bytes) -> str:
    return nfc(content.decode()).lower()


@pytest.mark.parametrize("form", FORMS)
def test_what_spreadsheets_write_is_read(script, root, plain, form):
    table = root / "train" / "train.csv"
    table.write_bytes(FORMS[form](table.read_text(encoding="utf-8")))
    done = script("prepare", "--data", root, "--folds", 2)
    assert done.code == 0, done.err
    if form in ("NFD", "paths in capitals"):
        # The ids are those of train.csv, so only the same but for form and case; the paths are those on disk.
        assert "were matched" in done.out
        for name, content in tables(OUT).items():
            assert same_names(content) == same_names(plain[name])
        assert all((root / path).is_file() for path in pd.read_csv(OUT / "images.csv").path)
    else:
        assert tables(OUT) == plain


REFUSED = {
    "XLSX": (lambda text: b"PK\x03\x04xl/", ["train.csv", "XLSX"]),
    "HTML": (lambda text: b"<html><body>", ["train.csv", "HTML"]),
    "CP949 with a folder that does not exist": (
        lambda text: text.replace("Asian,", "한국인,").replace("000001_", "김_").encode("cp949"),
        ["train.csv line 2", "UTF-8"],
    ),
    "Latin-1": (
        lambda text: text.replace("Asian,", "J\xfcrg\xff,").encode("latin-1", "replace"),
        ["train.csv line 2", "UTF-8"],
    ),
    "abbreviated gender after blank lines": (
        lambda text: text.replace("\n", "\n\n\n", 1).replace(",female,", ",f,", 1).encode(),
        ["line 5", "gender 'f'"],
    ),
    "age after a quoted line feed": (
        lambda text: text.replace("Asian,22", '"As\nian",22', 1).replace(",40,", ",forty,", 1).encode(),
        ["line 4", "age 'forty'"],
    ),
    "no age in a cut row": (lambda text: text + "9,male\n", ["line 6", "age ''", "path ''"]),
    "decimal comma": (lambda text: text.replace(",22,", ",22,0,", 1).encode(), ["line 2", "6 cells"]),
    "leading zeros of a folder lost": (None, ["line 2", "7", "did you mean 000007", "format the column as text"]),
    "one folder in two spellings": (
        lambda text: (text + text.splitlines()[1].replace("_male_", "_MALE_") + "\n").encode(),
        ["line 6", "already listed in line 2"],
    ),
    "misspelled folder": (
        lambda text: text.replace("_male_Asian", "_mael_Asian", 1).encode(),
        ["line 2", "did you mean 000000_male_Asian_22"],
    ),
    "two columns": (lambda text: text.replace("race", "age").encode(), ["line 1", "column age", "twice"]),
    "no column": (lambda text: text.replace("path\n", "folder\n").encode(), ["line 1", "column path"]),
    "open quote": (lambda text: text.replace(",22,", ',"22,', 1).encode(), ["line 2", "quote"]),
    "NUL bytes": (lambda text: (text + "\0" * 9).encode(), ["line 6", "NUL"]),
    "empty": (lambda text: b"\r\n,,\r\n", ["train.csv", "empty"]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_ambiguous_tables_are_refused_with_line_column_and_fix(script, root, kind):
    change, words = REFUSED[kind]
    table = root / "train" / "train.csv"
    text = table.read_text(encoding="utf-8")
    if change is None:
        first = text.splitlines()[1].split(",")[-1]
        (root / "train" / "images" / first).rename(root / "train" / "images" / "000007")
        content: bytes | str = text.replace(first, "7")
    else:
        content = change(text)
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    refused(script("prepare", "--data", root, "--folds", 2), *words)
    assert not OUT.exists()


def rename(path: Path, name: str) -> None:
    # In two steps for disks that ignore case.
    path.rename(path.with_name("other")).rename(path.with_name(name))


def test_names_on_disk_may_differ_in_form_case_and_blanks(script, root, plain):
    """Folders and eval photos as macOS writes them, photos of cameras; all ids stay those of the tables."""
    folders = sorted((root / "train" / "images").iterdir())
    for folder in folders:
        rename(folder, nfd(folder.name))
    rename(root / "eval" / "images" / "é1.jpg", nfd("é1.JPG "))
    folder = root / "train" / "images" / nfd(folders[0].name)
    for old, new in (
        ("mask1.jpg", "Mask1.JPG"),
        ("normal.jpg", " Normal .jpg"),
        ("incorrect_mask.jpg", "INCORRECT_MASK.Jpg"),
    ):
        rename(folder / old, new)
    done = script("prepare", "--data", root, "--folds", 2)
    assert done.code == 0, done.err
    made = tables(OUT)
    assert made["folds.csv"] == plain["folds.csv"]
    for name in ("images.csv", "eval.csv"):
        table, expected = (pd.read_csv(io.BytesIO(content)) for content in (made[name], plain[name]))
        assert table.image_id.tolist() == expected.image_id.tolist()
        assert all((root / path).is_file() for path in table.path)


def test_two_folders_that_differ_in_case_are_two_people(script, root):
    images, table = root / "train" / "images", root / "train" / "train.csv"
    first = table.read_text(encoding="utf-8").splitlines()[1]
    name = first.split(",")[-1]
    if (images / name.upper()).exists():
        pytest.skip("this disk ignores case")
    shutil.copytree(images / name, images / name.upper())
    with table.open("a", encoding="utf-8") as file:
        file.write(first.replace(name, name.upper()) + "\n")
    done = script("prepare", "--data", root, "--folds", 2)
    assert done.code == 0, done.err
    assert {name, name.upper()} <= set(pd.read_csv(OUT / "folds.csv").person_id)
    # A third spelling could be either.
    table.write_text(table.read_text(encoding="utf-8").replace(f",{name}\n", f",{name.title()}\n"), encoding="utf-8")
    refused(script("prepare", "--data", root, "--out", "other"), "line 2", f"'{name}'", f"'{name.upper()}'")


def test_a_prepared_folder_is_used_on_a_disk_that_writes_names_in_another_form(script, root, tmp_path, monkeypatch):
    """Prepared on macOS, whose names are NFD; the data is then unpacked with NFC names, and a camera's ones in capitals."""
    folders = list((root / "train" / "images").iterdir())
    other = Path(shutil.copytree(root, tmp_path / "other"))
    for place, form in ((root, nfd), (other, nfc)):
        for folder in [*(place / "train" / "images" / folder.name for folder in folders), place / "eval/images/é1.jpg"]:
            rename(folder, form(folder.name))
    rename(other / "eval" / "images" / "e0.jpg", "E0.JPG")
    assert script("prepare", "--data", root, "--folds", 2, "--out", "p").code == 0
    before = {path.name: path.read_bytes() for path in Path("p").iterdir()}
    shutil.rmtree(root)
    prepared = load_prepared(Path("p"), Places(root=other))
    for table in (prepared.images, prepared.evaluation):
        assert all(path.is_file() for path in prepared.photo_paths(table))
    # Without a flag, by the end of the recorded path.
    other.rename(root)
    assert all(path.is_file() for path in load_prepared(Path("p")).photo_paths(prepared.images))
    # Names on disk are no content: a folder that cannot be written stays as it is.
    monkeypatch.setattr(prepared_folder, "why_not_writable", lambda folder: "read-only")
    monkeypatch.setattr(dataset_record, "write_text", None)
    done = script("prepare", "--data", root, "--out", "p")
    assert done.code == 0, done.err
    assert {path.name: path.read_bytes() for path in Path("p").iterdir()} == before


def test_ids_do_not_depend_on_blanks_that_a_disk_drops(script, root, plain, tmp_path):
    table = root / "train" / "train.csv"
    name = table.read_text(encoding="utf-8").splitlines()[1].split(",")[-1]
    table.write_text(table.read_text(encoding="utf-8").replace(f",{name}\n", f",{name} \n"), encoding="utf-8")
    folder = root / "train" / "images" / name
    for on_disk, out in ((name, "a"), (f"{name} ", "b")):
        folder = folder.rename(folder.with_name(on_disk))
        done = script("prepare", "--data", root, "--folds", 2, "--out", out)
        assert done.code == 0, done.err
        assert (Path(out) / "folds.csv").read_bytes() == plain["folds.csv"]
    # Two people whose names differ in a blank only are two people.
    shutil.copytree(folder, folder.with_name(name))
    text = table.read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.endswith(f"{name} "))
    table.write_text(text + row.rstrip() + "\n", encoding="utf-8")
    done = script("prepare", "--data", root, "--folds", 2, "--out", "c")
    assert done.code == 0, done.err
    assert "5 people" in done.out


def test_an_exact_photo_comes_before_one_in_another_case(script, root):
    folder = sorted((root / "train" / "images").iterdir())[0]
    (folder / "MASK1.jpg").write_bytes((folder / "mask1.jpg").read_bytes())
    if len(list(folder.iterdir())) == len(KIND_MASK):
        pytest.skip("this disk ignores case")
    done = script("prepare", "--data", root, "--folds", 2)
    assert done.code == 0
    assert "MASK1.jpg" in done.out
    (folder / "mask1.jpg").rename(folder / "Mask1.jpg")
    refused(script("prepare", "--data", root, "--out", "other"), "Mask1", "MASK1")


def test_corrections_from_a_spreadsheet(script, root):
    """Semicolons, CP949 in the reasons, a name in another Unicode form, a swap in capitals, an age as a float."""
    ids = [line.split(",")[-1] for line in (root / "train" / "train.csv").read_text(encoding="utf-8").splitlines()[1:]]
    rows = [
        f"{ids[0]};Gender;Female;확인",
        f" {ids[1].upper()} ;age;60.0;나이",
        f"{ids[2]};swap;Incorrect_Mask | Normal;",
    ]
    Path("fix.csv").write_bytes(("person_id;field;value;reason\r\n" + "\r\n".join(rows)).encode("cp949"))
    done = script("prepare", "--data", root, "--folds", 2, "--corrections", "fix.csv")
    assert done.code == 0, done.err
    assert "3 made" in done.out
    images = pd.read_csv(OUT / "images.csv").set_index("image_id")
    assert images.loc[f"{ids[0]}/normal", "gender"] == "female"
    assert images.loc[f"{ids[1]}/normal", "age"] == 60
    assert images.loc[f"{ids[2]}/normal", "mask"] == 1


def test_a_correction_whose_id_lost_its_zeros_is_refused(script, root):
    Path("fix.csv").write_text("person_id,field,value,reason\n\n1,age,60,so\n")
    refused(script("prepare", "--data", root, "--corrections", "fix.csv"), "fix.csv line 3", "did you mean 000001")


def test_submission_and_truth_from_spreadsheets(script):
    names = ["a.jpg", "é.jpg", "c.jpg"]
    Path("answers.csv").write_text(
        "\ufeff;ImageID;ans\r\n" + "".join(f"{n};{nfd(name)};{n}\r\n" for n, name in enumerate(names)),
        encoding="utf-16",
    )
    Path("s.csv").write_text(
        "ImageID,ans,\n" + "".join(f"{nfc(name).upper()},{n}.0,\n" for n, name in enumerate(names)) + "\n,,\n"
    )
    done = script("evaluate", "--submission", "s.csv", "--truth", "answers.csv")
    assert done.code == 0, done.err
    assert "1.0000" in done.out
    Path("s.csv").write_text("ImageID,ans\n\na.jpg,0\né.jpg,x\na.jpg,18\n")
    refused(
        script("evaluate", "--submission", "s.csv", "--truth", "answers.csv"),
        "3 faults",
        "s.csv line 4",
        "line 5",
        "line 3",
    )
    Path("s.csv").write_text("ImageID,ans\na.jpg,0\né.jpg,1\ncc.jpg,2\n")
    refused(
        script("evaluate", "--submission", "s.csv", "--truth", "answers.csv"), "cc.jpg in line 4", "did you mean c.jpg"
    )


def test_prepared_tables_saved_by_a_spreadsheet_stay_readable(script, root, plain):
    assert script("prepare", "--data", root, "--folds", 2).code == 0
    before = load_prepared(OUT)
    for name, content in tables(OUT).items():
        (OUT / name).write_bytes(("\ufeff" + content.decode().replace(",", ";").replace("\n", ";\r\n")).encode())
    after = load_prepared(OUT)
    pd.testing.assert_frame_equal(after.images, before.images)
    pd.testing.assert_frame_equal(after.folds, before.folds)
    assert after.identity == before.identity
