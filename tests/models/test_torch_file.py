"""Files of torch.save are read without running code in them and without filling the memory."""

import zipfile

import pytest
import torch

from maskfold.models.torch_file import BLOCK_SIZE, load_torch_file

# bytearray(1879048192)
GIGABYTES = b"\x80\x02cbuiltins\nbytearray\nJ\0\0\0\x70\x85R."


@pytest.mark.parametrize("legacy", [False, True])
def test_both_formats_are_read(tmp_path, legacy):
    content = {"a": torch.arange(BLOCK_SIZE), "b": [1, "x", None]}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    read = load_torch_file(tmp_path / "a.pt")
    assert torch.equal(read["a"], content["a"])
    assert read["b"] == content["b"]


@pytest.mark.parametrize("method", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_pickle_that_asks_for_memory_is_refused(tmp_path, method):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(3)}, path)
    if method is None:
        path.write_bytes(GIGABYTES)
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in members.items():
                archive.writestr(name, GIGABYTES if name.endswith("data.pkl") else data)
    with pytest.raises(ValueError, match="objects other than tensors"):
        load_torch_file(path)


def test_a_block_boundary_hides_nothing(tmp_path):
    for start in range(BLOCK_SIZE - 10, BLOCK_SIZE + 1):
        (tmp_path / "a.pt").write_bytes(bytes(start) + b"bytearray")
        with pytest.raises(ValueError, match="objects other than tensors"):
            load_torch_file(tmp_path / "a.pt")


def test_an_archive_that_expands_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(3)}, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/9", bytes(60 * 2**20))
    with pytest.raises(ValueError, match="unpack to"):
        load_torch_file(path)
