"""One small model of each of timm's families: built, weights loaded, trained for a step, saved, reloaded.

The families come from timm's registry. Print the table with `pytest -m slow -s tests/models/test_timm_sweep.py`.
"""

import gc
import re
import time
from collections import defaultdict

import pytest
import timm
import torch
from timm.models import _registry as registry

from maskfold.config.experiment import Config, Data, Model
from maskfold.errors import UserError
from maskfold.models.classifier import build_classifier
from maskfold.models.input_size import check_input_size
from maskfold.runs.part_weights import finished_model, write_weights
from maskfold.runs.run_folder import RunFolder
from maskfold.training.optim import make_optimizer

MAX_PARAMS = 50e6
# Words for small variants in timm's names.
SMALL = re.compile(
    r"zepto|atto|femto|pico|nano|tiny|micro|mini|small|xxs|xxt|_xs|_050|_035|_0?18|[_-]s\d*(_|$)|b0|_[tma]0"
)
# Family -> words of its message: models that can't be trained here. The test also fails if one of them can.
EXPECTED_FAILURES: dict[str, str] = {}


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


def train_save_and_reload(name: str, folder) -> None:
    """Do everything that a run does with a model. Raises what it raises, AssertionError for a wrong result."""
    torch.manual_seed(0)
    state = timm.create_model(name).state_dict()
    size = tuple(registry.get_pretrained_cfg(name).input_size[1:])
    write_weights(folder / "download", state)
    config = Config(model=Model(backbone=name, weights=folder / "download"), data=Data(image_size=size))
    model = build_classifier(config)
    own = model.backbone.state_dict()
    for key in own.keys() & state.keys():
        assert torch.equal(own[key], state[key]), f"{key} is not the file's"
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


@pytest.mark.long
def test_a_model_of_each_family(tmp_path):
    trained, large, failed, start = [], [], {}, time.perf_counter()
    for family, names in families().items():
        sizes = {name: num_params(name) for name in names[:3]}
        name = min(sizes, key=sizes.get)
        begin, outcome = time.perf_counter(), "trained"
        if sizes[name] > MAX_PARAMS:
            large.append(family)
            outcome = "skipped, too large"
        else:
            try:
                train_save_and_reload(name, tmp_path)
                trained.append(family)
            except (UserError, RuntimeError, ValueError, AssertionError, NotImplementedError) as fault:
                failed[family] = f"{type(fault).__name__}: {fault}"
                outcome = failed[family]
        print(
            f"{family:36} {name:44} {sizes[name] / 1e6:5.1f}M {time.perf_counter() - begin:5.1f}s {outcome}", flush=True
        )
        gc.collect()
    print(
        f"{len(trained)} families trained, {len(failed)} failed, {len(large)} without a small model, "
        f"{time.perf_counter() - start:.0f} s, timm {timm.__version__}"
    )
    assert len(trained) >= 100
    assert failed.keys() == EXPECTED_FAILURES.keys(), failed
    for family, words in EXPECTED_FAILURES.items():
        assert words in failed[family]
