"""The notebooks are what their sources are, open with a question, end with a decision, and ask for what is there.

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
    held = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))
    wanted = jupytext.read(source).cells
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in held["cells"]] == [
        (cell.cell_type, cell.source) for cell in wanted
    ]
    code = [cell for cell in held["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_it_opens_with_a_question_and_ends_with_a_decision_in_the_code(source):
    first, *_, last = jupytext.read(source).cells
    assert re.match(r"# .+\?$", first.source.splitlines()[0])
    assert last.source.startswith("## The decision\n")
    named = re.findall(r"`((?:src|scripts)/[\w/.]+)`", last.source)
    assert named
    for path in named:
        assert (ROOT / path).is_file(), path


def test_what_it_imports_is_there(source):
    """A function renamed in the package fails here, and not in a reader's hands (`make pair` after a mend)."""
    code = "\n".join(cell.source for cell in jupytext.read(source).cells if cell.cell_type == "code")
    tree = ast.parse(code.replace("%matplotlib inline", ""))
    own = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module.startswith("maskfold")]
    assert own
    for node in own:
        module = importlib.import_module(node.module)
        for alias in node.names:
            assert hasattr(module, alias.name), f"{node.module}.{alias.name}"
    # Figures are the package's own: a notebook draws none itself.
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module for module in modules if module.startswith("matplotlib")}
