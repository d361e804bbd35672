"""prepare() with may_change=False: an existing prepared folder that other runs may use stays as it is."""

import json
import shutil
from pathlib import Path

import pytest

from maskfold.data import prepared_folder
from maskfold.data.prepared_folder import PrepareOptions, prepare
from maskfold.data.raw_layout import find_layout
from maskfold.errors import UserError

KEEP = PrepareOptions(2, may_change=False)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[a-z]*.*")}


def test_a_copy_of_the_raw_data_is_recorded_only_if_the_original_is_gone(raw, tmp_path):
    folder, copy = tmp_path / "p", tmp_path / "another name"
    prepare(find_layout(raw), folder, KEEP)
    before = files_of(folder)
    shutil.copytree(raw, copy)
    prepare(find_layout(copy), folder, KEEP)
    assert files_of(folder) == before
    shutil.rmtree(raw)
    prepare(find_layout(copy), folder, KEEP)
    assert json.loads((folder / "dataset.json").read_text())["root"] == str(copy)


@pytest.mark.parametrize("is_same", [True, False])
def test_a_folder_that_another_process_prepares_meanwhile_is_kept(raw, tmp_path, monkeypatch, is_same):
    """The other process begins and ends while this one checks the photos."""
    folder, corrections = tmp_path / "p", tmp_path / "c.csv"
    person = next((raw / "train" / "images").iterdir()).name
    corrections.write_text(f"person_id,field,value,reason\n{person},age,61,test\n{person},gender,male,test\n")
    layout, check = find_layout(raw), prepared_folder.check_changed_photos

    def check_while_another_prepares(*args):
        monkeypatch.setattr(prepared_folder, "check_changed_photos", check)
        prepare(layout, folder, PrepareOptions(2, corrections=None if is_same else corrections))
        return check(*args)

    monkeypatch.setattr(prepared_folder, "check_changed_photos", check_while_another_prepares)
    if is_same:
        prepare(layout, folder, KEEP)
    else:
        with pytest.raises(UserError, match="have changed since they were prepared"):
            prepare(layout, folder, KEEP)
    corrected = json.loads((folder / "dataset.json").read_text())["corrections"]
    assert (corrected is None) == is_same
