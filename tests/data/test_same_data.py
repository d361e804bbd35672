"""Photos that have not changed since the last prepare.py are hashed, but not decoded again."""

import json
from pathlib import Path

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
    assert "check 0" not in path.read_text()
