"""One small model of each of timm's families: built, its own weights file taken, trained for a step, saved, reloaded.

At the default input size, or where that is refused at the model's own. The families come from timm's registry. Print the table with `pytest -m slow -s tests/models/test_timm_sweep.py`.
"""

import gc
import re
import time
from collections import defaultdict
from pathlib import Path

import pytest
import timm
import torch
from timm.models import _registry as registry

from maskfold.config import Config, Data, Model
from maskfold.errors import UserError
from maskfold.models.classifier import build_classifier
from maskfold.models.input_size import check_input_size
from maskfold.training.checkpoints import finished_model, write_weights
from maskfold.training.runs import RunFolder
from maskfold.training.schedule import make_optimizer

MAX_PARAMS = 50e6
# Words for small variants in timm's names.
SMALL = re.compile(
    r"zepto|atto|femto|pico|nano|tiny|micro|mini|small|xxs|xxt|_xs|_050|_035|_0?18|[_-]s\d*(_|$)|b0|_[tma]0"
)
SIZE = Data().image_size
# {model: words of the message}: refused at SIZE, and taken at the input size that timm gives for it.
REFUSED: dict[str, str] = {}


def families() -> dict[str, list[str]]:
    """{module/prefix: names}, without timm's own test models; the likely smaller names first."""
    names = defaultdict(list)
    for name in timm.list_models(exclude_filters=["test_*"]):
        prefix = re.match(r"(tf_|legacy_)?[a-z]+", name)[0]
        names[f"{registry._model_to_module[name]}/{prefix}"].append(name)

    def likely_size(name: str):
        numbers = [int(number) for number in re.findall(r"\d+", name)] or [0]
        return (
            not SMALL.search(name),
            registry.get_pretrained_cfg(name).input_size[-1] > 256,
            numbers[0],
            len(name),
            name,
        )

    return {family: sorted(names[family], key=likely_size) for family in sorted(names)}


def num_params(name: str) -> int:
    with torch.device("meta"):
        return sum(tensor.numel() for tensor in timm.create_model(name).parameters())


def take_through(name: str, size: tuple[int, int], folder: Path) -> None:
    """Everything that a run does with a model. Raises UserError for a refusal, AssertionError for a wrong number."""
    torch.manual_seed(0)
    state = timm.create_model(name).state_dict()
    write_weights(folder / "download", state)
    config = Config(model=Model(backbone=name, weights=folder / "download"), data=Data(image_size=size))
    model = build_classifier(config)
    own = model.backbone.state_dict()
    for key in own.keys() & state.keys():
        assert own[key].shape != state[key].shape or torch.equal(own[key], state[key]), f"{key} is not the file's"
    check_input_size(model, config)
    del state, own
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    optimizer = make_optimizer(model, config.optim)
    before = model.head.linear.weight.clone()
    (-model.train()(images)[:, 3].mean()).backward()
    assert any(tensor.grad is not None and tensor.grad.any() for tensor in model.backbone.parameters())
    optimizer.step()
    assert not torch.equal(model.head.linear.weight, before)
    run = RunFolder(folder)
    write_weights(run.weights_path("fold0"), model.state_dict(), model.architecture)
    reloaded = finished_model(run, config, "fold0", torch.device("cpu")).eval()
    with torch.inference_mode():
        expected = model.eval()(images)
        assert expected.isfinite().all(), "predictions are not finite"
        assert torch.equal(reloaded(images), expected), "other predictions after reloading"


@pytest.mark.slow
def test_a_model_of_each_family(tmp_path):
    taken, large, refused, start = [], [], {}, time.perf_counter()
    for family, names in families().items():
        sizes = {name: num_params(name) for name in names[:3]}
        name = min(sizes, key=sizes.get)
        begin, note = time.perf_counter(), ""
        if sizes[name] > MAX_PARAMS:
            large.append(name)
            note = "left out: too large"
        else:
            own = tuple(registry.get_pretrained_cfg(name).input_size[1:])
            try:
                take_through(name, SIZE, tmp_path)
            except UserError as refusal:
                refused[name] = str(refusal).replace(str(tmp_path), "FOLDER")
                take_through(name, own, tmp_path)
                note = f"taken at {own[0]}x{own[1]}; {refused[name]}"
            taken.append(name)
        seconds = time.perf_counter() - begin
        print(f"{family:34} {name:40} {sizes[name] / 1e6:5.1f}M {seconds:5.1f}s {note}", flush=True)
        gc.collect()
    print(
        f"{len(taken)} families taken, {len(refused)} of them refused at {SIZE}, {len(large)} without a small model, "
        f"{time.perf_counter() - start:.0f} s, timm {timm.__version__}"
    )
    assert len(taken) >= 100
    expected = {name: words for name, words in REFUSED.items() if name in taken}
    assert refused.keys() == expected.keys()
    for name, words in expected.items():
        assert words in refused[name]
