"""Notebooks equal their sources, begin with a title and a question, end with a decision, and import what exists.

`make notebooks` (a part of `make test-all`) runs them.
"""

import ast
import importlib
import json
import re

import jupytext
import pytest
from conftest import ROOT

SOURCES = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.fixture(params=SOURCES, ids=lambda path: path.stem)
def source(request):
    return request.param


def test_there_are_five():
    names = ["01_data", "02_labels_and_people", "03_what_the_model_sees", "04_errors", "05_submission"]
    assert [path.stem for path in SOURCES] == names
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == names


def test_the_notebook_is_its_source_without_outputs(source):
    notebook = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))
    expected = jupytext.read(source).cells
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]] == [
        (cell.cell_type, cell.source) for cell in expected
    ]
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_it_begins_with_a_question_and_ends_with_a_decision_that_names_files(source):
    first, *_, last = jupytext.read(source).cells
    assert first.source.startswith("# ")
    assert "?" in first.source
    assert last.source.startswith("## The decision\n")
    named = re.findall(r"`((?:src|scripts)/[\w/.]+)`", last.source)
    assert named
    for path in named:
        assert (ROOT / path).is_file(), path


def test_imported_names_exist(source):
    """Finds functions that were renamed in the package (run `make pair` after a fix)."""
    code = "\n".join(cell.source for cell in jupytext.read(source).cells if cell.cell_type == "code")
    tree = ast.parse(code.replace("%matplotlib inline", ""))
    own = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module.startswith("maskfold")]
    assert own
    for node in own:
        module = importlib.import_module(node.module)
        for alias in node.names:
            assert hasattr(module, alias.name), f"{node.module}.{alias.name}"
    # Figures come from the package; notebooks do not use matplotlib themselves.
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module for module in modules if module.startswith("matplotlib")}


@pytest.mark.slow
def test_the_code_runs(source, trained, monkeypatch, tmp_path):
    """Runs the code cells on a tiny run; `make notebooks` runs them on the demo's."""
    code = "\n".join(cell.source for cell in jupytext.read(source).cells if cell.cell_type == "code")
    assert '"../runs/demo"' in code
    code = code.replace("%matplotlib inline", "").replace('"../runs/demo"', repr(str(trained.run.folder)))
    # Twelve people are too few to measure the leak.
    code = code.replace("assert bias.difference > 0", "")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, source.name, "exec"), {})
