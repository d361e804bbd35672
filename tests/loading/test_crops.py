"""Reduced decoding, centre crop, face crop, and the store, which is built once by any number of processes."""

import json
import multiprocessing
import os
import signal
import struct
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import until

from maskfold.config.experiment import Data
from maskfold.data.decode import read_photo
from maskfold.data.prepared_folder import PrepareOptions, prepare
from maskfold.data.raw_layout import find_layout
from maskfold.fileio import may_be_incomplete
from maskfold.loading import store as store_module
from maskfold.loading.crops import CROPS, crop_and_resize, reduction, resize, store_size
from maskfold.loading.faces import find_face
from maskfold.loading.store import open_store
from maskfold.photos.jpeg_header import jpeg_size


@pytest.fixture(scope="module")
def prepared(synthetic, tmp_path_factory):
    return prepare(find_layout(synthetic), tmp_path_factory.mktemp("p"), PrepareOptions(2, 0))


def small(**keys) -> Data:
    return Data.model_validate({"image_size": [64, 48], **keys})


def test_jpeg_size_reads_the_header(prepared):
    for path in prepared.photo_paths(prepared.images)[:30]:
        content = path.read_bytes()
        if content.startswith(b"\xff\xd8"):
            assert jpeg_size(content) == cv2.imread(str(path)).shape[:2]


@given(st.binary(max_size=80))
def test_jpeg_size_of_random_bytes(junk):
    size = jpeg_size(b"\xff\xd8" + junk)
    assert size is None or len(size) == 2


def test_reduction():
    reduced = {"decode": "reduced"}
    # A crop of 384x288 for a store of 160x120: 2.4 times as large.
    assert reduction((512, 384), Data(**reduced)) == 2
    # 4.8 times as large as a store of 80x60.
    assert reduction((512, 384), small(**reduced)) == 4
    # The whole photo of 512x384: 3.2 times as large.
    assert reduction((512, 384), Data(crop="none", **reduced)) == 2
    # EXIF data may rotate this photo, which then has fewer rows than the crop.
    assert reduction((512, 170), Data(**reduced)) == 1
    assert reduction((100, 80), Data(**reduced)) == 1
    # A face may be a small part of the photo.
    assert reduction((512, 384), Data(crop="face", **reduced)) == 1
    # The default decodes all pixels.
    assert all(reduction((4096, 3072), Data(crop=name)) == 1 for name in CROPS)


def test_reduced_decoding_gives_a_similar_photo(prepared):
    for path in prepared.photo_paths(prepared.images)[:10]:
        whole, less = read_photo(path), read_photo(path, lambda size: 4)
        a, b = (crop_and_resize(photo.image, small(), reduced=photo.reduced) for photo in (whole, less))
        assert whole.sha1 == less.sha1
        assert np.abs(a.astype(int) - b).mean() < 6


def test_exif_rotates_a_reduced_photo_too(tmp_path):
    """Orientation 6 in an EXIF block: the photo is rotated at every reduction."""
    image = np.zeros((320, 480, 3), np.uint8)
    image[:, :240] = 255
    _, jpeg = cv2.imencode(".jpg", image)
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHII", 0x0112, 3, 1, 6) + b"\x00" * 4
    block = b"Exif\x00\x00" + tiff
    path = tmp_path / "turned.jpg"
    path.write_bytes(jpeg[:2].tobytes() + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:].tobytes())
    for reduced in (1, 2, 4):
        photo = read_photo(path, lambda size, reduced=reduced: reduced)
        assert photo.image.shape == (480 // reduced, 320 // reduced, 3)
        assert photo.image[0].mean() > 250 > 5 > photo.image[-1].mean()


def test_face_windows():
    """A face 80 pixels high at (100, 200), margin 1/4: a window of 120 rows and 90 columns around its centre."""
    image = np.zeros((400, 300, 3), np.uint8)
    data = Data(crop="face", image_size=(128, 96), face_margin=0.25)
    image[180:300, 85:175] = 200
    crop = crop_and_resize(image, data, face=(100, 200, 60, 80))
    assert crop.shape == (160, 120, 3)
    assert (crop == 200).all()
    # At the edge the window is moved, not shrunk. For a face larger than the photo it is the largest possible window.
    image[:120, :90] = 77
    assert (crop_and_resize(image, data, face=(-5, 2, 60, 80)) == 77).all()
    assert crop_and_resize(image, data, face=(0, 0, 900, 900)).shape == (160, 120, 3)


boxes = st.tuples(*[st.floats(-50, 400)] * 2, *[st.floats(1, 900)] * 2)


@pytest.mark.parametrize("name", CROPS)
def test_a_crop_names_the_keys_that_its_window_depends_on(name):
    """The name of a store contains their values: a window that reads another key would use a store of other pixels."""
    data, read = small(crop=name, crop_size=[80, 60]), set()

    class Recorder:
        def __getattr__(self, key):
            read.add(key)
            return getattr(data, key)

    for face in (None, (3.0, 5.0, 20.0, 25.0)):
        CROPS[name].window((200, 150), Recorder(), 1, face)
    assert read == set(CROPS[name].keys)


@pytest.mark.parametrize(
    ("name", "digest"), [("none", "2c188bd8bdf1"), ("center", "0249a4b390ca"), ("face", "b18f3da02d18")]
)
def test_the_names_of_existing_stores_do_not_change(monkeypatch, name, digest):
    """Otherwise a new version would decode all photos again."""
    monkeypatch.setattr(store_module.cv2, "__version__", "5.0.0")
    monkeypatch.setattr(store_module, "VERSION", 2)
    data = Data(crop=name, crop_size=(64, 48), face_margin=0.5, image_size=(32, 32), decode="reduced")
    stored = store_module.store_name(data, "0123456789abcdef", ["a/mask1", "b/normal"])
    assert stored == f"{name}-40x40-{digest}.npy"
    changed = {"none": {}, "center": {"crop_size": (64, 50)}, "face": {"face_margin": 0.75}}[name]
    other = store_module.store_name(data.model_copy(update=changed), "0123456789abcdef", ["a/mask1", "b/normal"])
    assert (other == stored) == (not changed)
    # Both ways to decode give the same pixels only where the whole photo is needed to find a face.
    full = store_module.store_name(
        data.model_copy(update={"decode": "full"}), "0123456789abcdef", ["a/mask1", "b/normal"]
    )
    assert (full == stored) == (name == "face")


@given(boxes, st.integers(16, 300), st.integers(16, 300), st.floats(0, 4))
def test_any_face_gives_a_crop_inside_the_photo(face, height, width, margin):
    data = Data(crop="face", face_margin=margin)
    image = np.full((height, width, 3), 9, np.uint8)
    crop = crop_and_resize(image, data, face=face)
    assert crop.shape == (*store_size(data), 3)
    assert (crop == 9).all()


def test_yunet_finds_a_shifted_face_at_the_shifted_place(prepared):
    """Faces in synthetic photos that are shifted by 40 pixels shift by 40 pixels; a grey photo has none."""
    photos = [read_photo(path).image for path in prepared.photo_paths(prepared.images)[:40]]
    moved = []
    for image in photos:
        here, there = find_face(image), find_face(np.roll(image, 40, axis=0))
        if here is not None and there is not None:
            moved.append(there[1] - here[1])
    assert len(moved) >= 10
    assert np.median(moved) == pytest.approx(40, abs=4)
    assert find_face(np.full((512, 384, 3), 128, np.uint8)) is None


def test_the_share_of_faces_is_reported_and_photos_without_are_listed(prepared, capfd):
    data = small(crop="face", crop_size=[384, 288])
    store = open_store(prepared, prepared.images, data)
    output = capfd.readouterr().err
    report = json.loads(store.path.with_suffix(".json").read_text())
    faces = {
        name: find_face(read_photo(path).image)
        for name, path in zip(prepared.images.image_id, prepared.photo_paths(prepared.images), strict=True)
    }
    missed = [name for name, face in faces.items() if face is None]
    assert report["center_crop"] == missed
    assert 0 < len(missed) < len(faces)
    assert report["found"]["all"] == pytest.approx(1 - len(missed) / len(faces))
    assert f"{len(missed)} photos without a face get the centre crop" in output
    assert all(f"{name} " in output for name in ("worn", "incorrect", "not worn"))
    row = prepared.images.image_id.tolist().index(missed[0])
    photo = read_photo(prepared.photo_paths(prepared.images)[row]).image
    np.testing.assert_array_equal(store[row], crop_and_resize(photo, data))
    other = open_store(prepared, prepared.images, small(crop="face", crop_size=[384, 288], face_margin=0.5))
    assert other.path != store.path


def test_strong_shrinking_averages_pixels():
    """Stripes of one pixel become grey; bilinear sampling would keep some of them."""
    stripes = np.zeros((160, 160, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize(stripes, (40, 40)).astype(int) - 127).max() <= 1


def build_and_log(prepared, data, log: Path) -> None:
    built = store_module._build

    def logging_build(*args):
        with log.open("a") as file:
            file.write("built\n")
        built(*args)

    store_module._build = logging_build
    open_store(prepared, prepared.images, data)


def test_eight_processes_build_one_store(prepared, tmp_path):
    data, fork = small(crop="none", image_size=[40, 32]), multiprocessing.get_context("fork")
    started = [fork.Process(target=build_and_log, args=(prepared, data, tmp_path / "log")) for _ in range(8)]
    for process in started:
        process.start()
    for process in started:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "log").read_text() == "built\n"


def build_slowly(prepared, data) -> None:
    read = store_module.read_stored_photo

    def slow(*args):
        time.sleep(0.05)
        return read(*args)

    store_module.read_stored_photo = slow
    open_store(prepared, prepared.images, data)


def test_files_of_a_killed_build_are_deleted(prepared):
    data = small(crop="none", image_size=[48, 32])
    process = multiprocessing.get_context("fork").Process(target=build_slowly, args=(prepared, data))
    process.start()
    folder = prepared.folder / "store"
    until(lambda: list(folder.glob(".*.npy")), "a store that is being built")
    temporary = list(folder.glob(".*.npy"))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert temporary[0].exists()
    assert not list(folder.glob("none-60x40-*"))
    store = open_store(prepared, prepared.images, data)
    assert not temporary[0].exists()
    photo = read_photo(prepared.photo_paths(prepared.images)[7], lambda size: reduction(size, data))
    np.testing.assert_array_equal(store[7], crop_and_resize(photo.image, data, reduced=photo.reduced))


def test_a_store_written_just_before_a_reboot_is_built_again(prepared):
    data = small(crop="none", image_size=[36, 32])
    path = open_store(prepared, prepared.images, data).path
    content, started = path.read_bytes(), time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    path.write_bytes(bytes(len(content)))
    os.utime(path, (started - 5, started - 5))
    assert may_be_incomplete(path)
    open_store(prepared, prepared.images, data)
    assert path.read_bytes() == content
    for when in (started - 1000, started + 5):
        os.utime(path, (when, when))
        assert not may_be_incomplete(path)
