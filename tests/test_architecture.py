"""Rules of the code base: layers of imports, sizes of modules and folders, names."""

import ast
import re
import subprocess
import sys
from collections import defaultdict

import pytest
from conftest import ROOT

PACKAGE = ROOT / "src" / "maskfold"
# From the lowest layer up: folders, "" for the modules beside them, "__init__" for maskfold/__init__.py, which offers the
# Python API. Folders of one layer do not import each other.
LAYERS = (
    ("",),
    ("config", "metrics", "photos"),
    ("data", "models"),
    ("loading", "synthetic"),
    ("runs",),
    ("training",),
    ("inference",),
    ("pages",),
    ("evaluation",),
    ("audit",),
    ("report",),
    ("commands",),
    ("__init__",),
)
LAYER = {folder: number for number, folders in enumerate(LAYERS) for folder in folders}
FOLDERS = sorted(set(LAYER) - {"", "__init__"})
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
MAX_MODULES, MAX_LINES = 16, 200
ENDING = re.compile(r"(ations?|ates?|ings?|ions?|ers?|ors?|ed|es|e|s)$")
# A module of commands/ is named after its verb, also where a folder holds what the verb does: {verb: that folder}.
FOLDER_BY_VERB = {"audit": "audit", "evaluate": "evaluation", "report": "report", "train": "training"}


def module_of(path):
    return ".".join(("maskfold", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def folder_of(module: str) -> str:
    """The folder of a module, or of a folder's __init__.py, as LAYERS names it."""
    _, *parts = module.split(".")
    if not parts:
        return "__init__"
    return parts[0] if parts[0] in FOLDERS else ""


def imports(path):
    """Modules of the package that a file imports, at any place in the file."""
    modules = {module_of(other) for other in PACKAGE.rglob("*.py")}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [f"{node.module}.{name.name}" for name in node.names]
            yield from {name if name in modules else node.module for name in names if name.startswith("maskfold.")}
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("maskfold"))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module_of)
def test_imports_go_down_only(path):
    mine = folder_of(module_of(path))
    others = [folder_of(module) for module in imports(path)]
    assert not [other for other in others if other != mine and LAYER[other] >= LAYER[mine]]


def test_every_folder_has_a_layer():
    assert {path.parent.name for path in PACKAGE.glob("*/*.py")} == set(FOLDERS)


def test_the_tests_have_the_folders_of_the_package():
    tests = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert set(FOLDERS) - tests == set()


def test_contributing_shows_the_layers():
    """The diagram of CONTRIBUTING.md names the folders of each layer, the lowest last."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = text.split("<!-- layers -->")[1].split("```")[1]
    rows = [line.split("|")[0].split() for line in block.strip().splitlines() if "|" in line]
    diagram = [tuple(word.removesuffix("/").removesuffix(".py") for word in words) for words in reversed(rows)]
    assert [tuple(sorted(words)) for words in diagram] == [
        tuple(sorted(folder or "maskfold" for folder in folders)) for folders in LAYERS
    ]


def test_folders_and_modules_are_small():
    for folder in ("", *FOLDERS):
        modules = [path for path in MODULES if (path.parent.name if path.parent != PACKAGE else "") == folder]
        assert len(modules) <= MAX_MODULES or folder == "commands", folder
    too_long = {module_of(path): n for path in MODULES if (n := len(path.read_text().splitlines())) > MAX_LINES}
    assert not too_long


def test_module_names_are_distinct():
    """No two modules or folders have the same name or differ only by an ending; none hides a standard library module."""
    names = sorted([*(path.stem for path in MODULES), *FOLDERS])
    assert not set(names) & set(sys.stdlib_module_names)
    for verb, folder in FOLDER_BY_VERB.items():
        assert (PACKAGE / "commands" / f"{verb}.py").exists()
        names.remove(folder)
    stems = {}
    for name in names:
        stem = ENDING.sub("", name)
        assert stem not in stems, f"{name} and {stems[stem]}"
        stems[stem] = name


def public_names(path):
    """The functions, classes and variables that a module defines, without the private ones; an overload counts once."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_public_names_are_distinct():
    """No name stands for two things: a search for it, and a line that imports it, need no second look."""
    modules_by_name = defaultdict(list)
    for path in MODULES:
        for name in public_names(path):
            # Every module of commands/ has the function main.
            if (path.parent.name, name) != ("commands", "main"):
                modules_by_name[name].append(module_of(path))
    assert not {name: modules for name, modules in modules_by_name.items() if len(modules) > 1}


def test_scores_import_only_labels():
    assert set(imports(PACKAGE / "metrics" / "scores.py")) == {"maskfold.labels"}


def test_no_import_cycles():
    graph = {module_of(path): set(imports(path)) for path in PACKAGE.rglob("*.py")}
    done: set[str] = set()

    def visit(module, trail):
        assert module not in trail, f"cycle: {[*trail, module]}"
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_parsing_a_command_line_loads_no_heavy_library():
    code = "import sys, maskfold.config.cli; print(sorted({'torch', 'albumentations', 'pandas', 'timm', 'wandb'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["inference.submission", "evaluation.submission_tables"])
def test_submissions_of_cached_predictions_do_not_import_torch(module):
    code = f"import sys, maskfold.{module}; print(sorted({{'torch', 'albumentations', 'timm'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_labels_knows_the_class_formula():
    """No comparison with an age limit and no literal number of classes outside labels.py."""
    for path in PACKAGE.rglob("*.py"):
        if path.name in ("labels.py", "rendering.py", "portrait.py", "demo_data.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                numbers = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                assert not {30, 60} & set(n for n in numbers if isinstance(n, int)), f"{path}:{node.lineno}"
            if isinstance(node, ast.Constant) and node.value == 18 and not isinstance(node.value, bool):
                raise AssertionError(f"{path}:{node.lineno}: 18 outside labels.py")


def test_both_opencv_wheels_have_one_version():
    """Both wheels install into the same cv2 folder."""
    from importlib.metadata import version

    assert version("opencv-python") == version("opencv-python-headless")


def test_no_test_imports_another():
    """What several tests use lies in conftest.py, support.py and modules without tests."""
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert not tests & set(names), path
