"""The choices of the schema and the command line are those that the code implements."""

import shutil
from typing import Literal, get_args, get_origin

import pytest

from maskfold.config import choices
from maskfold.config.choices import choice_in, choice_of, names_by_dict
from maskfold.config.cli import Parser, add_config_flags, config_overrides
from maskfold.config.experiment import Config, ConfigSection, replaced, selects_on_validation
from maskfold.config.yaml_file import load_config
from maskfold.errors import UserError
from maskfold.loading.augmentations import PRESETS
from maskfold.loading.crops import CROPS
from maskfold.loading.mixing import MIXES, SIDEWAYS
from maskfold.loading.sampler import PARTNERS, SAMPLINGS
from maskfold.models.heads import HEADS
from maskfold.models.losses import BATCH_LOSSES, CLASS_WEIGHTS, PHOTO_LOSSES
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
    "data.decode",
    "data.num_workers",
    "model.frozen_epochs",
    "model.head_init",
    "optim.accum_steps",
    "optim.schedule_by",
    "run.device",
    "run.precision",
    "run.predict_precision",
    "run.wandb",
}


def has_literal(annotation) -> bool:
    """Whether an annotation has a Literal, at any depth."""
    return get_origin(annotation) is Literal or any(map(has_literal, get_args(annotation)))


FIELDS = {
    f"{section}.{key}": field
    for section, value in Config()
    if isinstance(value, ConfigSection)
    for key, field in type(value).model_fields.items()
}


def test_every_key_with_choices_is_listed_here():
    by_name = {key for key, field in FIELDS.items() if any(map(choice_in, (field.annotation, *field.metadata)))}
    assert by_name == CHOICES.keys()
    assert {key for key, field in FIELDS.items() if has_literal(field.annotation)} == SWITCHES


@pytest.mark.parametrize("key", CHOICES)
def test_the_schema_has_the_choices_of_the_code(key):
    """Also those that a dict gets from somewhere else than its own lines, which the schema would not see."""
    assert set(choice_of(FIELDS[key]).names) == CHOICES[key]


def test_a_choice_is_one_line(tmp_path, monkeypatch):
    """With one more line in a dict its name is in --help, is accepted, and is in the message on another name."""
    for folder in ("models", "loading", "training", "inference"):
        shutil.copytree(choices.PACKAGE / folder, tmp_path / folder)
    heads = tmp_path / "models" / "heads.py"
    line = 'HEADS = {"joint": JointHead, '
    assert line in heads.read_text()
    heads.write_text(heads.read_text().replace(line, line + '"conditional": JointHead, '))
    monkeypatch.setattr(choices, "PACKAGE", tmp_path)
    names_by_dict.cache_clear()
    try:
        path = tmp_path / "x.yaml"
        path.write_text("model: {head: conditional}")
        assert load_config(path).model.head == "conditional"
        parser = Parser(prog="train.py")
        add_config_flags(parser)
        assert "--model.head {joint,conditional,factored}" in parser.format_help()
        path.write_text("model: {head: no_such_name}")
        with pytest.raises(UserError, match=r"'joint', 'conditional' or 'factored', not 'no_such_name'"):
            load_config(path)
    finally:
        names_by_dict.cache_clear()


def test_weights_that_are_chosen_by_their_score_count_as_selected():
    """A new value of run.keep that depends on the validation scores must be reported as optimistically biased."""
    rising = [{"epoch": epoch, "macro_f1": epoch / 9} for epoch in range(1, 6)]
    falling = [row | {"macro_f1": 1 - row["macro_f1"]} for row in rising]
    for name, selection in SELECTIONS.items():
        by_score = selection.is_greedy or selection.epochs(rising, 2) != selection.epochs(falling, 2)
        assert selects_on_validation(replaced(Config(), run={"keep": name})) == by_score


@pytest.mark.parametrize("key", CHOICES)
def test_an_unknown_choice_lists_the_valid_ones(tmp_path, key):
    (tmp_path / "x.yaml").write_text("")
    parser = Parser(prog="train.py")
    add_config_flags(parser)
    with pytest.raises(UserError) as error:
        load_config(tmp_path / "x.yaml", config_overrides(parser.parse_args([f"--{key}", "no_such_name"])))
    for name in (f"--{key}", "no_such_name", *CHOICES[key]):
        assert name in str(error.value)


def test_an_unknown_optimiser_lists_valid_ones(trained):
    optim = Config().optim.model_copy(update={"name": "qqq"})
    with pytest.raises(UserError, match=r"optim\.name.*qqq.*adamw.*sgd"):
        make_optimizer(None, optim)
