"""The command line of scripts/submit.py."""

import re
from pathlib import Path

import pytest
from conftest import refused

from maskfold.inference.decision import DECISIONS
from maskfold.inference.ensemble_weights import BLENDS
from maskfold.models.tta import VIEWS


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere"], ["nowhere", "not a run folder"]),
        (["tiny", "--tta", "vflip"], ["vflip", "hflip"]),
        (["tiny", "--out", "a.txt"], ["a.txt", ".csv"]),
        (["tiny", "--tat", "none"], ["--tat", "--tta"]),
    ],
)
def test_an_invalid_call_is_refused(script, run, args, words):
    refused(script("submit", *args), *words)
    assert not list(Path().glob("*.csv"))


@pytest.mark.parametrize(("flag", "methods"), [("--blend", BLENDS), ("--decision", DECISIONS)])
def test_submit_has_the_choices_of_the_code(script, flag, methods):
    offered = re.search(rf"{flag} {{([^}}]+)}}", script("submit", "--help").out)[1]
    assert set(offered.split(",")) == set(methods)
    refused(script("submit", "a", flag, "no_such_name"), flag, "no_such_name", *methods)


def test_an_unknown_tta_view_lists_the_valid_ones(script, trained):
    refused(script("submit", trained.run.folder, "--tta", "mirror"), "--tta", "mirror", *VIEWS)
