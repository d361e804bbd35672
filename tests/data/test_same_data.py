"""Photos that have not changed since the last prepare.py are hashed, but not decoded again."""

import errno
import json
from importlib.metadata import version
from pathlib import Path

import cv2
import pytest
from conftest import refused

from maskfold.data import same_data

FILES = ("images.csv", "folds.csv", "eval.csv", "dataset.json")


def test_unchanged_photos_are_not_decoded_again(script, raw, monkeypatch):
    words = ("prepare", "--data", raw, "--out", "p", "--folds", 2)
    first = script(*words)
    assert first.code == 0, first.err
    before = {name: Path("p", name).read_bytes() for name in FILES}
    with monkeypatch.context() as patch:
        patch.setattr(same_data, "check_photos", None)
        again = script(*words)
    assert again.code == 0, again.err
    assert again.out == first.out
    assert {name: Path("p", name).read_bytes() for name in FILES} == before


def test_changed_photos_are_decoded(script, raw, monkeypatch):
    words = ("prepare", "--data", raw, "--out", "p", "--folds", 2)
    assert script(*words).code == 0
    photo = next((raw / "train" / "images").glob("*/normal.*"))
    content = photo.read_bytes()
    photo.write_bytes(content[: len(content) // 2])
    broken = script(*words)
    assert broken.code == 2
    assert photo.name in broken.err
    photo.write_bytes(content)
    assert script(*words).code == 0


def test_photos_that_another_version_has_checked_are_decoded_again(script, raw, monkeypatch):
    """Versions differ in the damage that they find."""
    words = ("prepare", "--data", raw, "--out", "p", "--folds", 2)
    assert script(*words).code == 0
    path = Path("p/dataset.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checked_by": "check 0"}))
    decoded = []
    check = same_data.check_photos
    monkeypatch.setattr(same_data, "check_photos", lambda *args: (decoded.append(args), check(*args))[1])
    assert script(*words).code == 0
    assert len(decoded) == 2
    libraries = (f"opencv {cv2.__version__}", f"simplejpeg {version('simplejpeg')}")
    assert all(library in json.loads(path.read_text())["checked_by"] for library in libraries)


def test_unreadable_photos_are_listed_together_and_can_be_left_out(script, raw):
    words = ("prepare", "--data", raw, "--out", "p", "--folds", 2)
    assert script(*words).code == 0
    photos = [
        next((raw / "train" / "images").glob("*/normal.*")),
        next((raw / "eval" / "images").glob("[!.]*")),
    ]
    for photo in photos:
        photo.unlink()
        # The disk fails.
        photo.symlink_to("/proc/self/mem")
    refused(script(*words), *(photo.name for photo in photos), "cannot be read", "--skip-damaged")
    # Without the folds, which are never changed.
    Path("p/folds.csv").unlink()
    done = script(*words, "--skip-damaged")
    assert done.code == 0, done.err
    assert len(json.loads(Path("p/dataset.json").read_text())["skipped"]["people"]) == 1


def test_too_many_open_files_do_not_look_like_unreadable_photos(raw, monkeypatch):
    def fail(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Too many open files") as caught:
        patch.setattr(Path, "open", fail)
        same_data._sha1(raw / "train" / "train.csv")
    assert type(caught.value) is OSError
