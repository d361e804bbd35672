import subprocess
import sys

import pytest

from maskfold.errors import UserError, did_you_mean
from maskfold.fileio import read_json, read_json_or_none, sha256, write_atomic, write_json, write_text
from maskfold.locks import locked


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_json_keeps_korean(tmp_path):
    write_json(tmp_path / "a.json", {"이름": 1})
    assert "이름" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "a.json", "") == {"이름": 1}


@pytest.mark.parametrize("text", ["[" * 50_000, '{"a": ' + "9" * 5000 + "}", "\ud800", "[1]", "{"])
def test_json_that_python_cannot_read_is_an_error(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(UserError, match=r"a\.json: .*JSON.*; restore it"):
        read_json(tmp_path / "a.json", "restore it")


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_invalid_json_names_file_and_fix(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.json.*do this"):
        read_json(tmp_path / "a.json", "do this")


def test_sha256_by_hand(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_lock_refuses_a_second_and_ends_with_a_killed_process(tmp_path):
    code = """
import sys
from pathlib import Path
from maskfold.locks import locked
with locked(Path(sys.argv[1]), "busy"):
    print("locked", flush=True)
    sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="busy"), locked(tmp_path, "busy"):
            pass
        other.kill()
    with locked(tmp_path, "busy"):
        pass


def test_did_you_mean_suggests_the_similar_word():
    assert "optim.lr" in did_you_mean("optim.lrr", ["optim.lr", "seed"])
    assert did_you_mean("zzz", ["optim.lr"]) == ""


@pytest.mark.parametrize(
    ("content", "expected"), [('{"a": 1}', {"a": 1}), ("[1]", None), ('{"a":', None), (b"\xff", None), (None, None)]
)
def test_a_file_that_is_not_essential_is_a_json_object_or_none(tmp_path, content, expected):
    path = tmp_path / "record.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_json_or_none(path) == expected
