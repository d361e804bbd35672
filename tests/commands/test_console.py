"""The console command `maskfold VERB ...`."""

import sys
from importlib import import_module

import pytest
from conftest import ROOT

from maskfold.commands import console
from maskfold.errors import UserError


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["maskfold", *words])
    console.main()


def test_every_verb_is_a_module_and_a_script():
    modules = {verb.replace("-", "_") for verb in console.VERBS}
    assert modules == {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert all(callable(import_module(f"maskfold.commands.{module}").main) for module in modules)


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_help_lists_the_verbs(monkeypatch, capsys, words):
    call(monkeypatch, *words)
    text = capsys.readouterr().out
    assert all(f"{verb} " in text for verb in console.VERBS)


def test_an_unknown_verb_suggests_a_known_one(monkeypatch):
    with pytest.raises(UserError, match=r"evalaute.*evaluate"):
        call(monkeypatch, "evalaute")


@pytest.mark.parametrize("verb", ["make-demo-data", "make_demo_data"])
def test_help_of_a_verb_lists_its_flags(monkeypatch, capsys, verb):
    with pytest.raises(SystemExit):
        call(monkeypatch, verb, "--help")
    text = capsys.readouterr().out
    assert "usage: maskfold make-demo-data" in text
    assert "--people" in text
