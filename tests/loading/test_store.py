"""Stores that other processes use, delete or have damaged, on disks with and without locks."""

import errno
import fcntl
import os
import pickle
import shutil

import numpy as np
import pytest

from maskfold import cache_folder, locks
from maskfold.config.experiment import Config, Data
from maskfold.data.images_table import Prepared
from maskfold.data.prepared_folder import PrepareOptions, prepare
from maskfold.data.raw_layout import find_layout
from maskfold.errors import LockedError
from maskfold.loading import store as store_module
from maskfold.loading.store import open_store
from maskfold.locks import unused

DATA: Data = Config.model_validate({"data": {"image_size": [20, 16]}}).data


@pytest.fixture(scope="module")
def prepared(synthetic, tmp_path_factory) -> Prepared:
    return prepare(find_layout(synthetic), tmp_path_factory.mktemp("prepared"), PrepareOptions(2, 0))


@pytest.fixture(autouse=True)
def as_before(prepared):
    yield
    locks.enable_locks(True)
    shutil.rmtree(prepared.folder / "store", ignore_errors=True)


def opened(prepared):
    return open_store(prepared, prepared.evaluation, DATA)


def test_a_store_is_in_use_until_it_is_closed(prepared):
    store = opened(prepared)
    path = store.path
    # What loader processes get does not keep it: they end with the process that opened it.
    copy = pickle.loads(pickle.dumps(store))
    with pytest.raises(LockedError, match="using this file"), unused(path):
        pass
    other = opened(prepared)
    np.testing.assert_array_equal(copy[3], store[3])
    del store
    with pytest.raises(LockedError), unused(path):
        pass
    del other
    with unused(path):
        pass


@pytest.mark.parametrize("has_locks", [True, False])
def test_a_store_is_opened_where_files_cannot_be_locked(prepared, monkeypatch, has_locks):
    before = opened(prepared)[0]

    def no_flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_flock)
    locks.enable_locks(has_locks)
    np.testing.assert_array_equal(opened(prepared)[0], before)


def test_a_store_that_is_deleted_while_it_is_opened_is_built_again(prepared, monkeypatch):
    expected, hold, calls = opened(prepared)[0].copy(), locks.hold, []

    def deleted_first(path):
        calls.append(path)
        if len(calls) == 1:
            path.unlink()
        return hold(path)

    monkeypatch.setattr(store_module, "hold", deleted_first)
    np.testing.assert_array_equal(opened(prepared)[0], expected)
    assert len(calls) == 2


def test_a_file_that_is_deleted_while_it_is_locked_is_missing(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    path.write_bytes(b"x")
    monkeypatch.setattr(fcntl, "flock", lambda *_: path.unlink())
    assert locks.hold(path) is None
    assert locks.hold(path) is None


@pytest.mark.parametrize("has_locks", [True, False])
def test_temporary_files_are_deleted_only_under_a_lock(prepared, has_locks):
    """Without locks they may be those of a process that builds the same store or features."""
    temporary = prepared.folder / "store" / ".4711.features-0123456789abcdef.npy"
    temporary.parent.mkdir()
    temporary.write_bytes(b"x")
    locks.enable_locks(has_locks)
    opened(prepared)
    assert temporary.exists() != has_locks


def test_a_damaged_store_on_a_read_only_disk_is_built_elsewhere(prepared, monkeypatch, capsys):
    store = opened(prepared)
    expected, path = store[5].copy(), store.path
    content = path.read_bytes()[:-1]
    path.write_bytes(content)
    monkeypatch.setattr(cache_folder, "why_not_writable", lambda folder: os.strerror(errno.EROFS))
    again = opened(prepared)
    np.testing.assert_array_equal(again[5], expected)
    assert again.path.parent != path.parent
    assert path.read_bytes() == content
    assert f"note: {path}: not a readable store" in capsys.readouterr().err
