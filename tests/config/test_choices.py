"""The choices of the schema and the command line are those that the code implements.

The schema lists its choices itself, because it must not import torch. A choice added in one place only fails here.
"""

import re
from typing import Literal, get_args, get_origin

import pytest
from conftest import refused

from maskfold.config.cli import Parser, add_config_flags, config_overrides
from maskfold.config.experiment import Config, ConfigSection
from maskfold.config.yaml_file import load_config
from maskfold.errors import UserError
from maskfold.inference.decision import DECISIONS
from maskfold.inference.ensemble_weights import BLENDS
from maskfold.loading.augmentations import PRESETS
from maskfold.loading.crops import CROPS
from maskfold.loading.mixing import MIXES, SIDEWAYS
from maskfold.loading.sampler import PARTNERS, SAMPLINGS
from maskfold.models.heads import HEADS
from maskfold.models.losses import BATCH_LOSSES, CLASS_WEIGHTS, PHOTO_LOSSES
from maskfold.models.tta import VIEWS
from maskfold.training.optim import SCHEDULES, make_optimizer
from maskfold.training.weight_selection import SELECTIONS

LOSSES = {*PHOTO_LOSSES, *BATCH_LOSSES}
# {key of the schema: choices that the code implements}.
CHOICES = {
    "data.crop": {*CROPS},
    "data.augment": {"none", *PRESETS},
    "data.sampling": {*SAMPLINGS},
    "model.head": {*HEADS},
    "loss.name": LOSSES,
    "loss.plus": LOSSES,
    "loss.class_weights": {*CLASS_WEIGHTS},
    "mix.name": {"none", *MIXES},
    "mix.halves": {*SIDEWAYS},
    "mix.partner": {*PARTNERS},
    "optim.schedule": {*SCHEDULES},
    "run.keep": {*SELECTIONS},
}
# Keys whose choices are two or three branches of a function, not a dict.
SWITCHES = {
    "data.num_workers",
    "model.frozen_epochs",
    "model.head_init",
    "optim.schedule_by",
    "run.device",
    "run.precision",
    "run.predict_precision",
    "run.wandb",
}


def literals(annotation) -> set[str]:
    """The strings of all Literals in an annotation, at any depth."""
    if get_origin(annotation) is Literal:
        return {value for value in get_args(annotation) if isinstance(value, str)}
    return set().union(*(literals(inner) for inner in get_args(annotation)))


OFFERED = {
    f"{section}.{key}": names
    for section, value in Config()
    if isinstance(value, ConfigSection)
    for key, field in type(value).model_fields.items()
    if (names := literals(field.annotation))
}


def test_every_key_with_choices_is_listed_here():
    assert OFFERED.keys() == CHOICES.keys() | SWITCHES


@pytest.mark.parametrize("key", CHOICES)
def test_the_schema_has_the_choices_of_the_code(key):
    assert OFFERED[key] == CHOICES[key]


@pytest.mark.parametrize("key", CHOICES)
def test_an_unknown_choice_lists_the_valid_ones(tmp_path, key):
    (tmp_path / "x.yaml").write_text("")
    parser = Parser(prog="train.py")
    add_config_flags(parser)
    with pytest.raises(UserError) as error:
        load_config(tmp_path / "x.yaml", config_overrides(parser.parse_args([f"--{key}", "no_such_name"])))
    for name in (f"--{key}", "no_such_name", *CHOICES[key]):
        assert name in str(error.value)


@pytest.mark.parametrize(("flag", "choices"), [("--blend", BLENDS), ("--decision", DECISIONS)])
def test_submit_has_the_choices_of_the_code(script, flag, choices):
    offered = re.search(rf"{flag} {{([^}}]+)}}", script("submit", "--help").out)[1]
    assert set(offered.split(",")) == set(choices)
    refused(script("submit", "a", flag, "no_such_name"), flag, "no_such_name", *choices)


def test_an_unknown_tta_view_lists_the_valid_ones(script, trained):
    refused(script("submit", trained.run.folder, "--tta", "mirror"), "--tta", "mirror", *VIEWS)


def test_an_unknown_optimiser_lists_valid_ones(trained):
    optim = Config().optim.model_copy(update={"name": "qqq"})
    with pytest.raises(UserError, match=r"optim\.name.*qqq.*adamw.*sgd"):
        make_optimizer(None, optim)
