"""Stores on file systems without memory maps have the same pixels."""

import errno
import mmap
import os

import numpy as np
import pytest

from maskfold.errors import UserError
from maskfold.loading.photo_array import UnmappedPhotos, open_photos, write_header
from maskfold.loading.store import Store


@pytest.fixture
def photos(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 3), np.uint8)
    np.save(tmp_path / "photos.npy", pixels)
    return tmp_path / "photos.npy", pixels


def without_maps(monkeypatch, refused_access, number):
    """mmap.mmap fails for these kinds of access."""
    original = mmap.mmap

    def call(*args, access=mmap.ACCESS_DEFAULT, **kwargs):
        if access in refused_access:
            raise OSError(number, os.strerror(number))
        return original(*args, access=access, **kwargs)

    monkeypatch.setattr(mmap, "mmap", call)


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EINVAL])
@pytest.mark.parametrize(
    ("access", "kind"),
    [((), np.memmap), ((mmap.ACCESS_READ,), np.memmap), ((mmap.ACCESS_READ, mmap.ACCESS_COPY), UnmappedPhotos)],
    ids=["shared", "private", "none"],
)
def test_the_pixels_are_the_same_without_maps(photos, monkeypatch, access, kind, number):
    path, pixels = photos
    without_maps(monkeypatch, access, number)
    opened = open_photos(path)
    assert isinstance(opened, kind)
    store = Store(path)
    assert len(store) == 5
    for row in (0, 4, 2, -1):
        np.testing.assert_array_equal(store[row], pixels[row])
    with pytest.raises(IndexError):
        store[5]


def test_a_store_that_is_too_short_is_an_error_without_maps_too(photos, monkeypatch):
    path, _ = photos
    path.write_bytes(path.read_bytes()[:-1])
    without_maps(monkeypatch, (mmap.ACCESS_READ, mmap.ACCESS_COPY), errno.ENODEV)
    with pytest.raises(UserError, match=r"photos\.npy: not a readable store"):
        len(Store(path))


def test_the_header_is_that_of_numpy(photos):
    """A store is written without a map, and has the bytes that it had with one."""
    path, pixels = photos
    other = path.with_name("other.npy")
    start = write_header(other, pixels.shape)
    with other.open("rb+") as file:
        os.pwrite(file.fileno(), pixels.tobytes(), start)
    assert other.read_bytes() == path.read_bytes()
