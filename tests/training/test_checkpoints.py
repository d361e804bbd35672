"""A damaged checkpoint is one message that names the file and the fix."""

import numpy as np
import pytest
import torch
from conftest import plain_train_state

from maskfold.errors import UserError
from maskfold.runs.run_folder import RunFolder
from maskfold.training.checkpoints import load_checkpoint, pack_state, save_checkpoint, unpack_state

ROW = {"epoch": 1, "seconds": 1.0, "images_per_second": 2.0, "macro_f1": 0.5}


def state_of(features=3):
    model = torch.nn.Linear(features, 18)
    return plain_train_state(model, torch.optim.AdamW(model.parameters()))


def checkpoint_of(state):
    return {"identity": "me", "history": [ROW], "step": 2, "sums": torch.zeros(3), "train_state": pack_state(state)}


def test_a_checkpoint_is_restored(tmp_path):
    run, state, other = RunFolder(tmp_path), state_of(), state_of()
    save_checkpoint(run, "fold0", checkpoint_of(state))
    loaded = load_checkpoint(run, "fold0", "me")
    unpack_state(other, loaded["train_state"], run.state_path("fold0"))
    assert torch.equal(other.model.weight, state.model.weight)
    assert loaded["history"] == [ROW]


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x80\x020.", b"\x80\x02X\5\0", b"\x80\x02h\5.", b"\x80\x02K\1."]
)
def test_a_file_that_torch_cannot_read_is_an_error(tmp_path, content):
    run = RunFolder(tmp_path)
    run.state_path("fold0").parent.mkdir(parents=True)
    run.state_path("fold0").write_bytes(content)
    with pytest.raises(UserError, match=r"last\.pt: not a readable checkpoint.*to train fold0 again"):
        load_checkpoint(run, "fold0", "me")


@pytest.mark.parametrize(
    "change",
    [
        {"history": None},
        {"history": [{**ROW, "seconds": "x"}]},
        {"history": [3]},
        {"step": -1},
        {"step": 1.5},
        {"sums": torch.zeros(2)},
        {"sums": "x"},
        {"train_state": [1]},
    ],
)
def test_content_of_another_type_is_an_error(tmp_path, change):
    run = RunFolder(tmp_path)
    save_checkpoint(run, "fold0", checkpoint_of(state_of()) | change)
    with pytest.raises(UserError, match=r"last\.pt: .*to train fold0 again"):
        load_checkpoint(run, "fold0", "me")


@pytest.mark.parametrize(
    "change",
    [
        lambda packed: packed.pop("model"),
        lambda packed: packed.pop("optimizer"),
        lambda packed: packed["model"].pop("weight"),
        lambda packed: packed.update(model=3),
        lambda packed: packed.update(optimizer=np.nan),
        lambda packed: packed.update(model=state_of(4).model.state_dict()),
    ],
)
def test_weights_that_do_not_fit_are_an_error(tmp_path, change):
    packed, path = pack_state(state_of()), RunFolder(tmp_path).state_path("fold0")
    change(packed)
    with pytest.raises(UserError, match=r"last\.pt: not a readable checkpoint.*to train fold0 again"):
        unpack_state(state_of(), packed, path)
