"""Recorded paths that stay valid when a project is moved, and caches that are optional."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from maskfold import cache_folder
from maskfold.cache_folder import CacheFolder
from maskfold.errors import UserError
from maskfold.fileio import check_output, why_not_writable
from maskfold.places import absolute, possible_paths, recorded_path


def test_paths_in_one_project_are_recorded_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path.parent
    assert recorded_path(Path("data/../data/demo"), Path("runs/q")) == Path("data/demo")
    assert recorded_path(tmp_path / "data", tmp_path / "runs") == Path("data")
    assert recorded_path(elsewhere / "data", Path("runs")) == elsewhere / "data"
    # A path that is not in the project of the file that records it stays valid when that file is moved alone.
    assert recorded_path(Path("data"), elsewhere / "runs") == tmp_path / "data"


def test_a_link_is_recorded_not_its_target(tmp_path, monkeypatch):
    project = tmp_path / "project"
    project.mkdir()
    (project / "data").symlink_to(tmp_path)
    monkeypatch.chdir(project)
    assert recorded_path(Path("data")) == Path("data")


def test_two_dots_after_a_link_lead_to_the_folder_above_its_target(tmp_path, monkeypatch):
    (tmp_path / "disk" / "link target").mkdir(parents=True)
    (tmp_path / "disk" / "data").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "link target")
    monkeypatch.chdir(tmp_path)
    assert absolute(Path("link/../data")) == tmp_path / "disk" / "data"
    assert recorded_path(Path("link/../data")) == Path("disk/data")


def existing(recorded: Path, holder: Path) -> list[Path]:
    return list(possible_paths(recorded, holder))


def test_a_path_without_access_is_left_out(tmp_path, no_access):
    (tmp_path / "data").mkdir()
    with pytest.raises(PermissionError):
        (no_access / "data").exists()
    assert existing(no_access / "data", tmp_path / "runs" / "q") == [tmp_path / "data"]


def test_a_recorded_path_is_found_in_a_moved_project(tmp_path, monkeypatch):
    project = tmp_path / "after"
    (project / "data" / "demo").mkdir(parents=True)
    (project / "runs" / "q").mkdir(parents=True)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    assert existing(Path("data/demo"), project / "runs" / "q") == [project / "data" / "demo"]
    assert existing(Path("/gone/before/data/demo"), project / "runs" / "q") == [project / "data" / "demo"]
    # A path that still exists comes first.
    kept = tmp_path / "kept" / "data" / "demo"
    kept.mkdir(parents=True)
    assert existing(kept, project / "runs" / "q")[0] == kept


def test_a_run_that_was_moved_alone_finds_data_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "project" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    assert existing(Path("data"), tmp_path / "runs" / "q") == [tmp_path / "project" / "data"]


@pytest.fixture
def read_only(monkeypatch):
    """No place but the system's temporary folder can be written."""
    monkeypatch.setattr(cache_folder, "why_not_writable", lambda folder: os.strerror(errno.EROFS))


def test_a_store_lies_in_a_temporary_folder_if_its_place_is_read_only(tmp_path, read_only, capsys):
    cache = CacheFolder()
    folder = cache.choose_folder(tmp_path / "store", 10, "the store")
    assert folder.is_dir()
    assert tmp_path not in folder.parents
    assert cache.choose_folder(tmp_path / "store", 10, "the store") == folder
    err = capsys.readouterr().err
    assert err.count("note:") == 1
    assert str(tmp_path / "store") in err
    assert "--cache" in err
    # Another process uses this folder too, but does not delete it.
    child = pickle.loads(pickle.dumps(cache))
    assert child.folders(tmp_path / "store")[0].parent == folder
    del child
    assert folder.is_dir()


def test_a_full_temporary_folder_is_an_error(tmp_path, read_only):
    with pytest.raises(UserError, match=r"free space.*--cache"):
        CacheFolder().choose_folder(tmp_path / "store", 2**60, "the store")


def test_no_temporary_folder_is_an_error(tmp_path, read_only, monkeypatch):
    def no_folder(**_):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(cache_folder.tempfile, "TemporaryDirectory", no_folder)
    with pytest.raises(UserError, match=r"store: cannot hold.*No usable temporary directory.*--cache"):
        CacheFolder().writable(tmp_path / "store", 10, "the store")


def test_the_cache_flag_names_the_place(tmp_path):
    cache = CacheFolder(tmp_path / "cache")
    default = tmp_path / "prepared" / "store"
    assert cache.folders(default) == [tmp_path / "cache" / "store", default]
    assert cache.choose_folder(default, 10, "the store") == tmp_path / "cache" / "store"


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_what_cannot_be_kept_is_printed_once(tmp_path, capsys, number):
    def write(path):
        raise OSError(number, os.strerror(number), str(path))

    cache = CacheFolder()
    for name in ("a.npz", "b.npz"):
        assert not cache.keep(tmp_path / name, write, "the predictions")
    err = capsys.readouterr().err
    assert err.count("note:") == 1
    assert os.strerror(number) in err
    assert cache.keep(tmp_path / "c.npz", Path.touch, "the predictions")


def test_other_errors_of_writing_are_not_hidden(tmp_path):
    def write(path):
        raise OSError(errno.EIO, "broken disk")

    with pytest.raises(OSError, match="broken disk"):
        CacheFolder().keep(tmp_path / "a", write, "the predictions")


def test_a_place_is_checked_without_creating_it(tmp_path):
    assert why_not_writable(tmp_path / "a" / "b") is None
    assert not (tmp_path / "a").exists()
    # Nobody can write here, not even root.
    assert why_not_writable(Path("/proc/self/a"))
    with pytest.raises(UserError, match=r"^/proc/self/a: cannot be written .*--out$"):
        check_output(Path("/proc/self/a"), "--out")


def test_a_file_in_place_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(UserError, match=r"file is not a folder.*--out$"):
            check_output(folder, "--out")


def test_a_folder_in_place_of_a_file_is_an_error(tmp_path):
    (tmp_path / "s.csv").mkdir()
    with pytest.raises(UserError, match=r"s\.csv is a folder.*--out$"):
        check_output(tmp_path, "--out", tmp_path / "s.csv")
    check_output(tmp_path, "--out", tmp_path / "t.csv")
